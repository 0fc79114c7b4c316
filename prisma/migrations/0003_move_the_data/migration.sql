-- CreateTable
CREATE TABLE "strangler_run" (
    "name" TEXT NOT NULL,
    "entity" TEXT NOT NULL,
    "holder" TEXT NOT NULL,
    "upto" TEXT,
    "done" BOOLEAN NOT NULL DEFAULT false,
    "detail" JSONB NOT NULL DEFAULT '{}',
    "saved_at" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'utc'::text),

    CONSTRAINT "strangler_run_pkey" PRIMARY KEY ("name","entity")
);
