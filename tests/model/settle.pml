/* Settling: what makes the secondary the same as the primary, whoever dies and whenever.

   One entity whose primary does not change (flip.pml has the rest). Writers of three ways write to it: `Inside` leaves
   its mark in the transaction of the write (prisma), `Keyed` and `Keyless` leave it before a write that somebody else
   performs (legacy), unless a position of the change stream has been saved: then the stream is the record. Sweepers
   settle the marks, followers the changes; any of them may die between any two steps and begin anew, without end. Two
   followers are what a lapsed lease makes of one: nothing here relies on a lease.

   Promise, in every state and not only at rest: a key is either the same in both stores, or something durable says that
   it is not: a mark, the stream from the saved position on, a repair, or the quarantine.

   Each macro below the sizes takes one rule away; tests/test_model.py says which run has to find that out. */

#ifndef KEYS
#define KEYS 1
#endif
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef SWEEPERS
#define SWEEPERS 1
#endif
#ifndef FOLLOWERS
#define FOLLOWERS 0
#endif
#ifndef LOSSES
#define LOSSES 0                /* how often the stream may lose what was not read yet */
#endif
#ifndef WAY
#define WAY Inside              /* Inside, Keyed or Keyless */
#endif

#ifndef SELF
#define SELF (FOLLOWERS == 0)   /* writers settle what they wrote; else they leave it to the sweep */
#endif

#define SETTLERS (WRITERS + SWEEPERS + FOLLOWERS)
#define SWEEPER(n) (WRITERS + n)
#define FOLLOWER(n) (WRITERS + SWEEPERS + n)
#define NONE 255
#define ALL ((1 << KEYS) - 1)
#define BIT(k) (1 << (k))

#ifdef REFUSES                  /* the secondary cannot take what the first writer wrote */
#define REFUSED(v) ((v) == 1)
#else
#define REFUSED(v) false
#endif

/* What dies loses what it had in memory; the choice stands wherever a step may be its last. */
#define OR_DIE :: goto died

mtype = { Inside, Keyed, Keyless };

/* The stores. A value is the number of the writer that wrote it; 0 is what both stores began with, 255 no document. */
byte primary[KEYS], secondary[KEYS];
byte changed[KEYS], clock = 1;  /* when a document says that it was changed */

/* Tokens and fences. Only their order counts: whether a settle that took its token later was applied before this one. */
byte settling[SETTLERS];        /* 1 + the key of a settle that has its token */
byte earlier[SETTLERS];         /* the settles of the same key that were under way when this one took its token */
bool superseded[SETTLERS];

bool mark[WRITERS], ripe[WRITERS];
byte mark_key[WRITERS], mark_at[WRITERS];

bool quarantine[KEYS];
bool unchanged[SETTLERS];       /* the entry that a settle saw before its token is still there, and the same */

byte log[WRITERS], last = 0, tail = 0, losses = 0;
#ifdef STARTED
byte saved = 0, owner = NONE;   /* somebody has followed before: no write leaves a mark */
#else
byte saved = NONE, owner = NONE;
#endif
bool repair = false;

/* The followers' memory: a lane of keys, and the position that waits for them. */
bool opened[FOLLOWERS + 1];
byte heard[FOLLOWERS + 1], waiting[FOLLOWERS + 1], flying[FOLLOWERS + 1], candidate[FOLLOWERS + 1], before[FOLLOWERS + 1];

byte ended = 0;                 /* writers */

#ifdef NO_FENCE
#define SUPERSEDED(me) false
#else
#define SUPERSEDED(me) superseded[me]
#endif

inline take_token(me, k) {
  d_step {
    settling[me] = 1 + k;
    for (i : 0 .. SETTLERS - 1) {
      if :: i != me && settling[i] == 1 + k -> earlier[me] = earlier[me] | BIT(i) :: else fi
    };
    i = 0
  }
}

inline drop_token(me) {
  for (i : 0 .. SETTLERS - 1) { earlier[i] = earlier[i] & ~BIT(me) };
  settling[me] = 0; earlier[me] = 0; superseded[me] = false; i = 0
}

#ifndef REFUSES
#define LOOK(me, k)
#define AFTER_APPLY(me, k) skip
#elif defined(TAKE_FIRST)
#define LOOK(me, k) atomic { if :: quarantine[k] = false OR_DIE fi };
#define AFTER_APPLY(me, k) if :: refused -> put(k) :: else fi
#elif defined(PUT_LAST)
#define LOOK(me, k) unchanged[me] = quarantine[k];
#define AFTER_APPLY(me, k) if :: refused :: else -> release(me, k) fi
#else
#define LOOK(me, k) unchanged[me] = quarantine[k];
#define AFTER_APPLY(me, k) if :: refused -> put(k) :: else -> release(me, k) fi
#endif
#ifdef PUT_LAST
#define PUT_LATE(k) if :: refused -> put(k) :: else fi;
#else
#define PUT_LATE(k)
#endif

/* Settle the key k: token, read, apply. Needs the locals, and a label `died`. To die before the apply is to have done
   nothing, so that one place for it is enough. */
#define SETTLE_LOCALS byte i, value; bool refused

inline settle(me, k) {
  LOOK(me, k)
#ifdef READ_BEFORE_TOKEN
  value = primary[k];
  atomic { take_token(me, k) };
#else
#ifdef TOKEN_BEFORE_WRITE
  atomic { if :: settling[me] :: !settling[me] -> take_token(me, k) fi };
#else
  atomic { take_token(me, k) };
#endif
  value = primary[k];
#endif
  atomic {
    if
    :: SUPERSEDED(me)                              /* somebody who read later was here */
    :: !SUPERSEDED(me) ->
      if
      :: REFUSED(value) -> refused = true
      :: else ->
        secondary[k] = value;
        for (i : 0 .. SETTLERS - 1) { if :: earlier[me] & BIT(i) -> superseded[i] = true :: else fi }
      fi
    OR_DIE
    fi;
    d_step { value = 0; drop_token(me) }
  };
  AFTER_APPLY(me, k)
}

inline put(k) {
  atomic { if :: put_now(k) OR_DIE fi; refused = false }
}

inline put_now(k) {
  quarantine[k] = true;
  d_step { for (i : 0 .. SETTLERS - 1) { unchanged[i] = false }; i = 0 }
}

/* An entry leaves with the settle that had seen it, just as it is, before its token: as a mark does. */
inline release(me, k) {
  atomic {
    if
#ifdef BLIND_RELEASE
    :: quarantine[k] = false
#else
    :: unchanged[me] -> quarantine[k] = false
    :: !unchanged[me]
#endif
    OR_DIE
    fi;
    unchanged[me] = false
  }
}

inline forget(me) {
  d_step { unchanged[me] = false; value = 0; refused = false; drop_token(me) }
}

inline clear(n, k) {
#ifdef CLEAR_IN_FLIGHT
  /* every mark of the key that there is by now, also those of writes that began since */
  d_step {
    for (i : 0 .. WRITERS - 1) { if :: mark[i] && mark_key[i] == k -> mark[i] = false :: else fi };
    mark[n] = false; i = 0
  }
#else
  mark[n] = false
#endif
}

inline leave_mark(n, k) {
  mark[n] = true; mark_key[n] = k; mark_at[n] = clock
}

inline write(n, k) {
#ifdef DELETES
  if :: n == WRITERS - 1 -> primary[k] = NONE :: else -> primary[k] = n + 1 fi;
#else
  primary[k] = n + 1;
#endif
#if KEYS > 1
  clock++; changed[k] = clock;
#endif
#if FOLLOWERS
  log[last] = k; last++;
#endif
  ripe[n] = true
}

proctype writer(byte n) {
  byte k; bool marked = true; SETTLE_LOCALS;
  select (k : 0 .. KEYS - 1);
#ifdef TOKEN_BEFORE_WRITE
  atomic { take_token(n, k) };
#endif
  if
  :: WAY == Inside ->
#ifdef MARK_AFTER_WRITE
    atomic { if :: write(n, k) OR_DIE fi };
    atomic { if :: leave_mark(n, k) OR_DIE fi }
#else
    atomic { if :: leave_mark(n, k); write(n, k) OR_DIE fi }
#endif
  :: else ->
#ifdef TRUST_OPEN_STREAM
    marked = !(saved != NONE || opened[0]);
#else
    marked = (saved == NONE);                      /* may be paused for as long as it likes after this */
#endif
    if
    :: marked -> atomic { if :: if :: WAY == Keyed -> leave_mark(n, k) :: else -> leave_mark(n, NONE) fi OR_DIE fi }
    :: else
    fi;
    atomic { if :: write(n, k) OR_DIE fi }
  fi;
  if
  :: !marked -> goto died                          /* the follower hears of it */
  :: else
  fi;
  /* it settles its own key: the answer says which it was */
#ifdef UNMARK_BEFORE_APPLY
  atomic { if :: clear(n, k) OR_DIE fi };
#endif
#if SELF
  settle(n, k);
  atomic { if :: clear(n, k) OR_DIE fi };
  PUT_LATE(k)
#endif
died:
  atomic { forget(n); k = 0; ripe[n] = true; ended++ }
}

#ifdef SWEEP_EARLY
#define DUE(n) mark[n]
#else
#define DUE(n) (mark[n] && ripe[n])
#endif

/* `ripe`: older than any write may take, so that no write of that mark can still land. A mark that came with its write
   is ripe at once. */
proctype sweeper(byte me) {
  byte n, k, todo; SETTLE_LOCALS;
end:
  do
  :: atomic { DUE(0) || DUE(WRITERS - 1) || DUE(1) ->
      if :: DUE(0) -> n = 0 :: DUE(1) -> n = 1 :: DUE(WRITERS - 1) -> n = WRITERS - 1 fi };
    atomic {
      if
      :: mark_key[n] != NONE -> todo = BIT(mark_key[n])
      :: else ->
        /* it stands for every document changed since it was made */
#ifdef SINCE_THE_SWEEP
        mark_at[n] = clock;
#endif
        for (k : 0 .. KEYS - 1) {
          if :: changed[k] >= mark_at[n] && primary[k] != NONE -> todo = todo | BIT(k) :: else fi
        }
        k = 0
      fi
    };
#ifdef UNMARK_BEFORE_APPLY
    atomic { if :: clear(n, 0) OR_DIE fi };
#endif
    do
    :: todo ->
      atomic { k = 0; do :: (todo & BIT(k)) -> break :: else -> k++ od; todo = todo & ~BIT(k) };
      settle(me, k)
    :: !todo -> break
    od;
    atomic { if :: clear(n, k) OR_DIE fi };
    PUT_LATE(k)
    atomic { forget(me); n = 0; k = 0; todo = 0 }
#if defined(REFUSES) && !defined(TAKE_FIRST)
  :: atomic { quarantine[0] -> k = 0 };
    settle(me, k);
    atomic { forget(me); n = 0; k = 0 }
#endif
  :: false ->
died: atomic { forget(me); n = 0; k = 0; todo = 0 }
  od
}

#if FOLLOWERS
#ifdef NO_CLAIM
#define MINE(f) true
#else
#define MINE(f) (owner == f)                       /* the store lets only the last who claimed it change the position */
#endif

/* Opens the stream where the position says, and settles what it hears. */
proctype follower(byte f) {
  byte k, left; SETTLE_LOCALS;
again:                                             /* after any step it may die, and open anew */
  atomic { owner = f; heard[f] = saved; if :: repair -> left = ALL :: else fi };
  if
  :: heard[f] != NONE && heard[f] >= tail
  :: heard[f] == NONE || heard[f] < tail ->        /* the first one, or lost: all of both stores is settled once more */
    atomic { if :: heard[f] = last OR_DIE fi };
#ifdef TRUST_OPEN_STREAM
    opened[f] = true;
#endif
#ifdef RESTART_WITHOUT_REPAIR
    atomic { if :: MINE(f) -> saved = heard[f] :: !MINE(f) -> goto died OR_DIE fi };
    atomic { if :: MINE(f) -> repair = true; left = ALL :: !MINE(f) -> goto died OR_DIE fi }
#else
    atomic { if :: MINE(f) -> saved = heard[f]; repair = true; left = ALL :: !MINE(f) -> goto died OR_DIE fi }
#endif
  fi;
  opened[f] = true;
  do
  :: atomic { waiting[f] ->
      k = 0; do :: (waiting[f] & BIT(k)) -> break :: else -> k++ od;
      waiting[f] = waiting[f] & ~BIT(k); flying[f] = BIT(k) };
    settle(FOLLOWER(f), k);
    flying[f] = 0;
    PUT_LATE(k)
    k = 0
  :: atomic { left -> k = 0; do :: (left & BIT(k)) -> break :: else -> k++ od };
    settle(FOLLOWER(f), k);
    atomic {
      left = left & ~BIT(k); k = 0;
      if
      :: !left -> if :: MINE(f) -> repair = false :: else -> goto died fi
      :: else
      fi
    }
  :: heard[f] < tail && heard[f] < last -> goto died
  :: goto died
  od;
died:
  atomic {
    forget(FOLLOWER(f));
    d_step {
      k = 0; left = 0; opened[f] = false; heard[f] = 0; waiting[f] = 0; flying[f] = 0; candidate[f] = NONE; before[f] = 0
    }
  };
  goto again
}

/* The rest of the same process: hears the changes, and saves the position once the keys before it have settled. */
proctype listener(byte f) {
end:
  do
  :: atomic { opened[f] && heard[f] >= tail && heard[f] < last ->
      waiting[f] = waiting[f] | BIT(log[heard[f]]); heard[f]++ }
  :: atomic { opened[f] && candidate[f] == NONE && heard[f] != saved && MINE(f) ->
      candidate[f] = heard[f]; before[f] = waiting[f] | flying[f] }
#ifdef SAVE_EARLY
  :: atomic { candidate[f] != NONE ->
#else
  :: atomic { candidate[f] != NONE && !(before[f] & (waiting[f] | flying[f])) ->
#endif
      if :: MINE(f) -> saved = candidate[f] :: else fi;
      candidate[f] = NONE; before[f] = 0 }
  od
}

#if LOSSES
active proctype loser() {
end:
  do
  :: atomic { losses < LOSSES && tail < last -> tail = last; losses++ }
  od
}
#endif
#endif

/* What says that a key is not settled yet. */
#define MARKED_BY(n, k) (mark[n] && (mark_key[n] == k || (mark_key[n] == NONE && changed[k] >= mark_at[n])))
#if WRITERS > 2
#define MARKED(k) (MARKED_BY(0, k) || MARKED_BY(1, k) || MARKED_BY(2, k))
#else
#define MARKED(k) (MARKED_BY(0, k) || MARKED_BY(1, k))
#endif
#if FOLLOWERS
#define AFTER(n, k) (saved <= n && n < last && log[n] == k)
#if WRITERS > 2
#define HEARABLE(k) (AFTER(0, k) || AFTER(1, k) || AFTER(2, k))
#else
#define HEARABLE(k) (AFTER(0, k) || AFTER(1, k))
#endif
#define STREAMED(k) (saved != NONE && (repair || saved < tail || HEARABLE(k)))
#define FOLLOWED (saved == last && !repair && losses == LOSSES)
#else
#define STREAMED(k) false
#define FOLLOWED true
#endif
#define SAFE(k) (primary[k] == secondary[k] || MARKED(k) || STREAMED(k) || quarantine[k])
#if KEYS > 1
#define PROMISE (SAFE(0) && SAFE(1))
#define EQUAL (primary[0] == secondary[0] && primary[1] == secondary[1])
#else
#define PROMISE SAFE(0)
#define EQUAL (primary[0] == secondary[0])
#endif
#if WRITERS > 2
#define NO_MARKS (!mark[0] && !mark[1] && !mark[2])
#else
#define NO_MARKS (!mark[0] && !mark[1])
#endif

active proctype monitor() {
end:
  atomic { !(PROMISE) -> assert(false) }
}

#ifdef REACH
/* Not a rule: shows that rest can be reached, so that the promise is not kept by never getting anywhere. */
active proctype reached() {
end:
  atomic { ended == WRITERS && NO_MARKS && EQUAL && !quarantine[0] && primary[0] && FOLLOWED -> assert(false) }
}
#endif

init {
  byte n;
  atomic {
    for (n : 0 .. WRITERS - 1) { mark_key[n] = NONE; run writer(n) };
#if SWEEPERS
    for (n : 1 .. SWEEPERS) { run sweeper(SWEEPER(n - 1)) };
#endif
#if FOLLOWERS
    for (n : 1 .. FOLLOWERS) { candidate[n - 1] = NONE; run follower(n - 1); run listener(n - 1) };
#endif
    n = 0
  }
}
