-- AlterTable
ALTER TABLE "strangler_audit" ALTER COLUMN "at" SET DEFAULT (now() AT TIME ZONE 'utc'::text);

-- AlterTable
ALTER TABLE "strangler_flag" DROP COLUMN "fenced",
ADD COLUMN     "saved_at" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'utc'::text),
ADD COLUMN     "term" BIGINT NOT NULL DEFAULT 0,
ALTER COLUMN "changed_at" SET DEFAULT (now() AT TIME ZONE 'utc'::text);

-- AlterTable
ALTER TABLE "strangler_mark" ALTER COLUMN "at" SET DEFAULT (now() AT TIME ZONE 'utc'::text);

-- AlterTable
ALTER TABLE "strangler_replica" ADD COLUMN     "seen" JSONB NOT NULL DEFAULT '{}',
ALTER COLUMN "heartbeat_at" SET DEFAULT (now() AT TIME ZONE 'utc'::text),
ALTER COLUMN "started_at" SET DEFAULT (now() AT TIME ZONE 'utc'::text);

-- CreateTable
CREATE TABLE "strangler_term" (
    "entity" TEXT NOT NULL,
    "term" BIGINT NOT NULL,

    CONSTRAINT "strangler_term_pkey" PRIMARY KEY ("entity")
);

-- CreateTable
CREATE TABLE "strangler_quarantine" (
    "entity" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "stamp" TEXT NOT NULL,
    "since" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'utc'::text),
    "tries" INTEGER NOT NULL DEFAULT 1,
    "tried_at" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'utc'::text),

    CONSTRAINT "strangler_quarantine_pkey" PRIMARY KEY ("entity","key")
);

-- CreateTable
CREATE TABLE "strangler_lease" (
    "name" TEXT NOT NULL,
    "holder" TEXT NOT NULL,
    "until" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "strangler_lease_pkey" PRIMARY KEY ("name")
);

-- A settle passes this gate before it writes: until its transaction ends nobody can turn the entity. It is refused, with
-- the term that is known (-1: none), where that is another one than its own.
-- An advisory lock, not one of the row: those who share a row's lock overtake whoever waits to change it, without end.
CREATE FUNCTION "strangler_gate"("of_entity" TEXT, "of_term" BIGINT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
    known BIGINT;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('strangler_term'), hashtext(of_entity));
    SELECT t."term" INTO known FROM "strangler_term" t WHERE t."entity" = of_entity;
    IF known IS DISTINCT FROM of_term THEN
        RAISE EXCEPTION 'term %', coalesce(known, -1) USING ERRCODE = 'ST001';
    END IF;
    RETURN TRUE;
END
$$;

-- Raises an entity's term, once the settles that have passed the gate are over. Waits for them as well where there is nothing
-- to raise.
CREATE FUNCTION "strangler_turn"("to_entity" TEXT, "to_term" BIGINT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('strangler_term'), hashtext(to_entity));
    INSERT INTO "strangler_term" AS t ("entity", "term") VALUES (to_entity, to_term)
        ON CONFLICT ("entity") DO UPDATE SET "term" = excluded."term" WHERE t."term" < excluded."term";
    RETURN TRUE;
END
$$;
