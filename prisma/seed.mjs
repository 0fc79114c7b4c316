// A handful of sample rows, through Prisma Client. Running it again changes nothing.

import { PrismaPg } from '@prisma/adapter-pg'
import generated from './generated/client/index.js'

const CREATED = new Date('2026-01-15T09:30:00.000Z')
const id = (n) => n.toString(16).padStart(24, '0')

const accounts = [1, 2].map((n) => ({ id: id(n), walletAddress: `0x${String(n).repeat(40)}` }))

const profiles = [
  { id: id(0x11), accountId: id(1), username: 'ada', bio: 'Collects engines' },
  { id: id(0x12), accountId: id(2), username: 'grace' },
]

const videos = ['PENDING', 'PROCESSING', 'COMPLETED', 'FAILED'].map((status, n) => ({
  id: id(0x21 + n),
  accountId: id(1 + (n % 2)),
  nftId: `nft-${n}`,
  jobId: `job-${n}`,
  status,
  title: `Sample ${n}`,
  ...(status === 'COMPLETED' && {
    videoUrl: 'https://cdn.example/video.mp4',
    thumbnailUrl: 'https://cdn.example/video.jpg',
    isPublic: true,
  }),
}))

const notifications = [
  {
    id: id(0x31),
    accountId: id(1),
    type: 'VIDEO_COMPLETED',
    title: 'Ready',
    message: 'Your video is ready',
    data: { videoId: id(0x23) },
  },
  { id: id(0x32), accountId: id(2), type: 'SYSTEM_ANNOUNCEMENT', title: 'Hello', message: 'Welcome aboard', isRead: true },
]

const nftOwnerships = [
  {
    id: id(0x41),
    nftId: 'nft-0',
    walletAddress: accounts[0].walletAddress,
    contractAddress: '0xc0de',
    tokenId: '7',
    verified: true,
    lastVerified: CREATED,
  },
]

const rows = { account: accounts, profile: profiles, video: videos, notification: notifications, nFTOwnership: nftOwnerships }

async function main() {
  if (!process.env.DATABASE_URL) throw new Error('DATABASE_URL names no database')
  const prisma = new generated.PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }) })
  try {
    for (const [model, samples] of Object.entries(rows)) {
      const data = samples.map((row) => ({ ...row, createdAt: CREATED, updatedAt: CREATED }))
      const { count } = await prisma[model].createMany({ data, skipDuplicates: true })
      console.log(`${model}: ${count} new of ${data.length}`)
    }
  } finally {
    await prisma.$disconnect()
  }
}

main().catch((error) => {
  console.error(`seed: ${error.message}`)
  process.exitCode = 1
})
