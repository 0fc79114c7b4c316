// Proxim8's four collections, through Mongoose.
import mongoose from 'mongoose';
import { MONGO_OPTIONS } from '../web/environment.js';

const { ObjectId, Mixed } = mongoose.Schema.Types;

export const VIDEO_STATUSES = ['PENDING', 'PROCESSING', 'COMPLETED', 'FAILED'];
export const NOTIFICATION_TYPES = ['VIDEO_COMPLETED', 'VIDEO_FAILED', 'SYSTEM_ANNOUNCEMENT', 'NFT_VERIFIED'];
export const NEWEST_FIRST = { createdAt: -1, _id: -1 };

// Clients see `id`; `_id` and `__v` stay in the collection.
const withId = {
  virtuals: true,
  versionKey: false,
  transform: (document, { _id, id, ...rest }) => ({ id, ...rest }),
};
const options = (collection) => ({ collection, timestamps: true, minimize: false, autoIndex: false, toJSON: withId });

// Core's collection: here it is only read, and added to when a new wallet calls. Core knows no `__v`.
const account = new mongoose.Schema(
  { walletAddress: { type: String, required: true } },
  {
    ...options('accounts'),
    versionKey: false,
    id: false,
    toJSON: { transform: (document, { walletAddress }) => ({ walletAddress }) },
  },
);
account.index({ walletAddress: 1 }, { unique: true });

const video = new mongoose.Schema(
  {
    accountId: { type: ObjectId, required: true },
    nftId: { type: String, required: true },
    jobId: { type: String, required: true },
    status: { type: String, enum: VIDEO_STATUSES, required: true, default: 'PENDING' },
    title: String,
    description: String,
    videoUrl: String,
    thumbnailUrl: String,
    isPublic: { type: Boolean, required: true, default: false },
  },
  options('videos'),
);
video.virtual('account', { ref: 'Account', localField: 'accountId', foreignField: '_id', justOne: true });
video.index({ jobId: 1 }, { unique: true });
video.index({ accountId: 1, createdAt: -1, _id: -1 });
video.index({ isPublic: 1, createdAt: -1, _id: -1 });

const notification = new mongoose.Schema(
  {
    accountId: { type: ObjectId, required: true },
    type: { type: String, enum: NOTIFICATION_TYPES, required: true },
    title: { type: String, required: true },
    message: { type: String, required: true },
    data: Mixed,
    isRead: { type: Boolean, required: true, default: false },
  },
  options('notifications'),
);
notification.index({ accountId: 1, createdAt: -1, _id: -1 });
notification.index({ accountId: 1, isRead: 1 });

const nftOwnership = new mongoose.Schema(
  {
    nftId: { type: String, required: true },
    walletAddress: { type: String, required: true },
    contractAddress: { type: String, required: true },
    tokenId: { type: String, required: true },
    verified: { type: Boolean, required: true, default: false },
    lastVerified: Date,
  },
  options('nft_ownership'),
);
nftOwnership.index({ nftId: 1 }, { unique: true });
nftOwnership.index({ walletAddress: 1, createdAt: -1, _id: -1 });
nftOwnership.index({ createdAt: -1, _id: -1 });

export const Account = mongoose.model('Account', account);
export const Video = mongoose.model('Video', video);
export const Notification = mongoose.model('Notification', notification);
export const NftOwnership = mongoose.model('NftOwnership', nftOwnership);

/** Connects to the database that the URL names, and makes its indexes. */
export async function connect(url) {
  // Without the buffer a query fails at once when there is no connection, instead of waiting for one.
  mongoose.set('bufferCommands', false);
  await mongoose.connect(url, { ...MONGO_OPTIONS, autoIndex: false, autoCreate: false });
  await Promise.all([Account, Video, Notification, NftOwnership].map((model) => model.createIndexes()));
}

export const ping = () => mongoose.connection.db.command({ ping: 1 });
export const disconnect = () => mongoose.disconnect();

/** What the wallet middleware needs of the accounts. */
export const walletAccounts = {
  find: async (walletAddress) => (await Account.findOne({ walletAddress }, { _id: 1 }).lean())?._id ?? null,
  insert: async (walletAddress) => (await Account.create({ walletAddress }))._id,
};

/** Applies {$set, $unset} to one document and resolves to what it became, or to null when there is none. */
export const update = (model, id, change) => model.findByIdAndUpdate(id, change, { returnDocument: 'after' });
