// Who calls: the wallet address in a verified JWT, and the account that belongs to it.
import { createSecretKey } from 'node:crypto';
import jwt from 'jsonwebtoken';
import { ApiError, isDuplicateKey } from './answers.js';

/**
 * Express middleware that attaches `req.auth = {wallet: {address}, account: {id}}`, or answers 401.
 * `accounts` offers `find(walletAddress)` and `insert(walletAddress)`, each resolving to an account's _id (find: or null).
 */
export function validateAccountExists(secret, accounts) {
  // Made once: given a string, `verify` would first try at every call to read a public key from it.
  const key = createSecretKey(secret, 'utf8');
  return async (req, res, next) => {
    const address = walletAddress(req.get('authorization'), key);
    if (address === undefined) throw new ApiError(401, 'Wallet address required');
    req.auth = { wallet: { address }, account: { id: await findOrCreate(accounts, address) } };
    next();
  };
}

function walletAddress(authorization, key) {
  const [scheme, token] = (authorization ?? '').split(' ');
  if (scheme.toLowerCase() !== 'bearer' || !token) return undefined;
  try {
    const address = jwt.verify(token, key, { algorithms: ['HS256'] })?.wallet?.address;
    return typeof address === 'string' && address.trim() !== '' ? address : undefined;
  } catch (error) {
    if (error instanceof jwt.JsonWebTokenError) return undefined; // expired and not yet valid ones included
    throw error;
  }
}

async function findOrCreate(accounts, address) {
  // An account that exists is only read: touching its updatedAt here would turn every authenticated read into a write.
  const existing = await accounts.find(address);
  if (existing !== null) return existing;
  try {
    return await accounts.insert(address);
  } catch (error) {
    if (!isDuplicateKey(error)) throw error;
    return accounts.find(address); // another request of the same wallet was first
  }
}
