-- CreateEnum
CREATE TYPE "VideoStatus" AS ENUM ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED');

-- CreateEnum
CREATE TYPE "NotificationType" AS ENUM ('VIDEO_COMPLETED', 'VIDEO_FAILED', 'SYSTEM_ANNOUNCEMENT', 'NFT_VERIFIED');

-- CreateTable
CREATE TABLE "accounts" (
    "_id" TEXT NOT NULL,
    "walletAddress" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "accounts_pkey" PRIMARY KEY ("_id")
);

-- CreateTable
CREATE TABLE "profiles" (
    "_id" TEXT NOT NULL,
    "accountId" TEXT NOT NULL,
    "username" TEXT NOT NULL,
    "bio" TEXT,
    "avatar" TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "profiles_pkey" PRIMARY KEY ("_id")
);

-- CreateTable
CREATE TABLE "videos" (
    "_id" TEXT NOT NULL,
    "accountId" TEXT NOT NULL,
    "nftId" TEXT NOT NULL,
    "jobId" TEXT NOT NULL,
    "status" "VideoStatus" NOT NULL,
    "title" TEXT,
    "description" TEXT,
    "videoUrl" TEXT,
    "thumbnailUrl" TEXT,
    "isPublic" BOOLEAN NOT NULL DEFAULT false,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "videos_pkey" PRIMARY KEY ("_id")
);

-- CreateTable
CREATE TABLE "notifications" (
    "_id" TEXT NOT NULL,
    "accountId" TEXT NOT NULL,
    "type" "NotificationType" NOT NULL,
    "title" TEXT NOT NULL,
    "message" TEXT NOT NULL,
    "data" JSONB,
    "isRead" BOOLEAN NOT NULL DEFAULT false,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "notifications_pkey" PRIMARY KEY ("_id")
);

-- CreateTable
CREATE TABLE "nft_ownership" (
    "_id" TEXT NOT NULL,
    "nftId" TEXT NOT NULL,
    "walletAddress" TEXT NOT NULL,
    "contractAddress" TEXT NOT NULL,
    "tokenId" TEXT NOT NULL,
    "verified" BOOLEAN NOT NULL DEFAULT false,
    "lastVerified" TIMESTAMP(3),
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "nft_ownership_pkey" PRIMARY KEY ("_id")
);

-- CreateTable
CREATE TABLE "strangler_mark" (
    "id" TEXT NOT NULL,
    "entity" TEXT NOT NULL,
    "key" TEXT,
    "at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "strangler_mark_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "strangler_fence" (
    "entity" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "token" BIGINT NOT NULL,

    CONSTRAINT "strangler_fence_pkey" PRIMARY KEY ("entity","key")
);

-- CreateTable
CREATE TABLE "strangler_flag" (
    "entity" TEXT NOT NULL,
    "stage" TEXT NOT NULL DEFAULT 'off',
    "target" TEXT,
    "fenced" BOOLEAN NOT NULL DEFAULT false,
    "epoch" BIGINT NOT NULL DEFAULT 0,
    "serve" INTEGER NOT NULL DEFAULT 0,
    "sample" INTEGER NOT NULL DEFAULT 100,
    "changed_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "changed_by" TEXT NOT NULL,

    CONSTRAINT "strangler_flag_pkey" PRIMARY KEY ("entity")
);

-- CreateTable
CREATE TABLE "strangler_replica" (
    "id" TEXT NOT NULL,
    "epochs" JSONB NOT NULL DEFAULT '{}',
    "heartbeat_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "strangler_replica_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "strangler_audit" (
    "id" TEXT NOT NULL,
    "at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "entity" TEXT NOT NULL,
    "who" TEXT NOT NULL,
    "action" TEXT NOT NULL,
    "from_stage" TEXT NOT NULL,
    "to_stage" TEXT NOT NULL,
    "epoch" BIGINT NOT NULL,
    "note" TEXT,

    CONSTRAINT "strangler_audit_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "accounts_walletAddress_key" ON "accounts"("walletAddress");

-- CreateIndex
CREATE UNIQUE INDEX "profiles_username_key" ON "profiles"("username");

-- CreateIndex
CREATE INDEX "profiles_accountId_idx" ON "profiles"("accountId");

-- CreateIndex
CREATE UNIQUE INDEX "videos_jobId_key" ON "videos"("jobId");

-- CreateIndex
CREATE INDEX "videos_accountId_createdAt_idx" ON "videos"("accountId", "createdAt");

-- CreateIndex
CREATE INDEX "notifications_accountId_createdAt_idx" ON "notifications"("accountId", "createdAt");

-- CreateIndex
CREATE UNIQUE INDEX "nft_ownership_nftId_key" ON "nft_ownership"("nftId");

-- CreateIndex
CREATE INDEX "strangler_mark_entity_at_idx" ON "strangler_mark"("entity", "at");

-- CreateIndex
CREATE INDEX "strangler_audit_entity_at_idx" ON "strangler_audit"("entity", "at");

-- AddForeignKey
ALTER TABLE "profiles" ADD CONSTRAINT "profiles_accountId_fkey" FOREIGN KEY ("accountId") REFERENCES "accounts"("_id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "videos" ADD CONSTRAINT "videos_accountId_fkey" FOREIGN KEY ("accountId") REFERENCES "accounts"("_id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "notifications" ADD CONSTRAINT "notifications_accountId_fkey" FOREIGN KEY ("accountId") REFERENCES "accounts"("_id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- The primary store's counter: each settle takes its token from here, before it reads.
CREATE SEQUENCE "strangler_token" AS BIGINT;
