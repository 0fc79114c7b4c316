// What clients may send. Only values that passed one of these checks reach a query, so an object with
// operators in it can never stand where a string is expected.
import { invalid } from './answers.js';

const HEX_24 = /^[0-9a-f]{24}$/i;
const WHOLE_NUMBER = /^\d{1,9}$/;
const ISO_DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;

export function string(value, field) {
  if (typeof value !== 'string') throw invalid(field, 'must be a string');
  return value;
}

export function text(value, field) {
  if (string(value, field).trim() === '') throw invalid(field, 'must not be empty');
  return value;
}

export function flag(value, field) {
  if (typeof value !== 'boolean') throw invalid(field, 'must be true or false');
  return value;
}

export function object(value, field) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(field, 'must be an object');
  return value;
}

export function instant(value, field) {
  if (!ISO_DATE.test(string(value, field)) || Number.isNaN(Date.parse(value))) {
    throw invalid(field, 'must be an ISO 8601 date and time');
  }
  return new Date(value);
}

export function id(value, field = 'id') {
  if (!HEX_24.test(string(value, field))) throw invalid(field, 'must be 24 hexadecimal digits');
  return value;
}

export const oneOf = (choices) => (value, field) => {
  if (!choices.includes(string(value, field))) throw invalid(field, `must be one of ${choices.join(', ')}`);
  return value;
};

/** In a PATCH: null takes the field away. */
export const clearable = (check) => (value, field) => (value === null ? null : check(value, field));

/** The named fields of a body, checked; everything else in it is ignored, and so is an optional null. */
export function fields(body, required, optional = {}) {
  const source = object(body ?? {}, 'body');
  const given = (name) => Object.hasOwn(source, name) && source[name] !== null;
  const taken = {};
  for (const [name, check] of Object.entries(required)) {
    if (!given(name)) throw invalid(name, 'is required');
    taken[name] = check(source[name], name);
  }
  for (const [name, check] of Object.entries(optional)) {
    if (given(name)) taken[name] = check(source[name], name);
  }
  return taken;
}

/** The Mongo update that a PATCH asks for. */
export function changes(body, checks) {
  const source = object(body ?? {}, 'body');
  const update = { $set: {}, $unset: {} };
  for (const [name, check] of Object.entries(checks)) {
    if (!Object.hasOwn(source, name)) continue;
    const value = check(source[name], name);
    if (value === null) update.$unset[name] = '';
    else update.$set[name] = value;
  }
  return update;
}

/** A whole number in the query string, from 1 to `most`. */
export function number(query, name, { otherwise, most }) {
  const given = query[name];
  if (given === undefined || given === '') return otherwise;
  const value = WHOLE_NUMBER.test(given) ? Number(given) : 0;
  if (value < 1 || value > most) throw invalid(name, `must be a whole number from 1 to ${most}`);
  return value;
}

export const limit = (query) => number(query, 'limit', { otherwise: 20, most: 100 });
export const page = (query) => number(query, 'page', { otherwise: 1, most: 100_000 });

/** An optional value of the query string: undefined when absent or empty. */
export function filter(query, name, check) {
  return query[name] === undefined || query[name] === '' ? undefined : check(query[name], name);
}
