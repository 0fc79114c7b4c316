import { Router } from 'express';
import { found, sendList, sendSuccess } from '../web/answers.js';
import * as input from '../web/input.js';
import { NEWEST_FIRST, NftOwnership, update } from './models.js';

const { text } = input;

export function nftRoutes() {
  const router = Router();
  const idOf = (req) => input.id(req.params.id);

  router.post('/verify', async (req, res) => {
    const required = { nftId: text, walletAddress: text, contractAddress: text, tokenId: text };
    const { nftId, ...ownership } = input.fields(req.body, required);
    const nft = await NftOwnership.findOneAndUpdate(
      { nftId },
      { $set: { ...ownership, verified: true, lastVerified: new Date() } },
      { upsert: true, returnDocument: 'after', setDefaultsOnInsert: true },
    );
    sendSuccess(res, nft, 'NFT verified');
  });

  router.get('/', async (req, res) => {
    const walletAddress = input.filter(req.query, 'walletAddress', text);
    const where = walletAddress === undefined ? {} : { walletAddress };
    sendList(res, await NftOwnership.find(where).sort(NEWEST_FIRST).limit(input.limit(req.query)));
  });

  router.get('/token/:nftId', async (req, res) => {
    sendSuccess(res, found(await NftOwnership.findOne({ nftId: req.params.nftId }), 'NFT'));
  });

  router.get('/:id', async (req, res) => {
    sendSuccess(res, found(await NftOwnership.findById(idOf(req)), 'NFT'));
  });

  router.patch('/:id', async (req, res) => {
    const id = idOf(req);
    const change = input.changes(req.body, {
      walletAddress: text,
      contractAddress: text,
      tokenId: text,
      verified: input.flag,
      lastVerified: input.clearable(input.instant),
    });
    sendSuccess(res, found(await update(NftOwnership, id, change), 'NFT'));
  });

  router.delete('/:id', async (req, res) => {
    sendSuccess(res, found(await NftOwnership.findByIdAndDelete(idOf(req)), 'NFT'), 'NFT deleted');
  });

  return router;
}
