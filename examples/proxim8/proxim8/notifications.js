import { Router } from 'express';
import { found, invalid, sendList, sendSuccess } from '../web/answers.js';
import * as input from '../web/input.js';
import { Account, NEWEST_FIRST, Notification, NOTIFICATION_TYPES, update } from './models.js';

const type = input.oneOf(NOTIFICATION_TYPES);

export function notificationRoutes(authenticated) {
  const router = Router();
  const idOf = (req) => input.id(req.params.id);

  router.post('/', async (req, res) => {
    const required = { accountId: input.id, type, title: input.text, message: input.text };
    const given = input.fields(req.body, required, { data: input.object });
    if (!(await Account.exists({ _id: given.accountId }))) throw invalid('accountId', 'must be an existing account');
    sendSuccess(res, await Notification.create(given), 'Notification created', 201);
  });

  router.get('/', authenticated, async (req, res) => {
    const own = { accountId: req.auth.account.id };
    const unread = input.filter(req.query, 'unread', input.oneOf(['true', 'false']));
    const where = unread === 'true' ? { ...own, isRead: false } : own;
    const [data, unreadCount] = await Promise.all([
      Notification.find(where).sort(NEWEST_FIRST).limit(input.limit(req.query)),
      Notification.countDocuments({ ...own, isRead: false }),
    ]);
    sendList(res, data, { unreadCount });
  });

  router.post('/read-all', authenticated, async (req, res) => {
    const unread = { accountId: req.auth.account.id, isRead: false };
    const { modifiedCount } = await Notification.updateMany(unread, { $set: { isRead: true } });
    sendSuccess(res, { modified: modifiedCount }, 'All notifications marked as read');
  });

  router.get('/:id', async (req, res) => {
    sendSuccess(res, found(await Notification.findById(idOf(req)), 'Notification'));
  });

  router.patch('/:id/read', async (req, res) => {
    const change = { $set: { isRead: true } };
    sendSuccess(res, found(await update(Notification, idOf(req), change), 'Notification'), 'Notification marked as read');
  });

  router.delete('/:id', async (req, res) => {
    sendSuccess(res, found(await Notification.findByIdAndDelete(idOf(req)), 'Notification'), 'Notification deleted');
  });

  return router;
}
