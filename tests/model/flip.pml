/* Changing the primary: a fence that every replica acknowledges, two stores that hold copies of the flag, and coordinators,
   replicas and settles of which any may be paused or die between any two steps.

   One entity with one key. Legacy has a change stream, a write to Prisma carries its mark. A replica's lease may lapse
   at any time (it was paused) and be taken again; what it had begun then is still on its way. Whoever reads flags sees
   either store, never mind which is behind. A flag that is not fenced has its epoch as term, a fenced one that of the
   flag before it: here no flag is changed but by flips.

   Promises: the stores never hold different flags under one epoch; a write is acknowledged only if it landed on what
   was the primary at that moment; once all is quiet the stores are equal, no acknowledged write is lost, no flag is
   fenced and no write is held that a living replica could make.

   Each macro below the sizes takes one rule away; tests/test_model.py says which run has to find that out. */

#ifndef WRITES
#define WRITES 2                /* one by each replica */
#endif
#ifndef FLIPS
#define FLIPS 2                 /* coordinators, each of which tries once: there and back, or at the same time */
#endif
#ifndef LAPSES
#define LAPSES 1
#endif
#ifndef LAPSING
#define LAPSING 1               /* how many of the replicas it may happen to */
#endif
#ifndef RETURNS
#define RETURNS 1
#endif
#ifndef STRAYS
#define STRAYS 1                /* settles of other origin: a sweep, a repair, a follower that has lost its lease */
#endif

#define Legacy 0
#define Prisma 1
#define FLAG(epoch, primary, fenced) (((epoch) << 2) + ((primary) << 1) + (fenced))
#define EPOCH(flag) ((flag) >> 2)
#define PRIMARY(flag) (((flag) >> 1) & 1)
#define FENCED(flag) ((flag) & 1)
#define TERM(flag) (EPOCH(flag) - FENCED(flag))
#define OR_DIE :: goto died

/* The stores. */
byte value[2], flag[2], term[2];
byte stream = 0, settled = 0;   /* legacy: changes in the stream that are not settles, and how far they have settled */
bool mark[WRITES];              /* prisma's outbox */

/* Tokens and fences. Only their order counts: whether a settle that took its token later was applied before this one. */
#define SETTLERS (2 + STRAYS)
byte earlier[SETTLERS];         /* the settles of the same direction that were under way when this one took its token */
byte direction[SETTLERS];       /* of a settle that has its token: 1 + the side that it reads */
bool superseded[SETTLERS];

/* The replicas, as the registry and they themselves know them. */
mtype = { Out, Registered, Holds };
mtype seat[WRITES];
byte view[WRITES];
bool under_way[WRITES], interrupted[WRITES];
byte lapses = 0, returns = 0;

#ifdef REACH
byte flips = 0;
#define FLIPPED flips++
#else
#define FLIPPED skip
#endif

/* What only the model knows. */
byte decided = FLAG(0, Legacy, 0);
byte begun = 0, landings = 0, landed[WRITES];
bool confirmed[WRITES], written[WRITES];

#if defined(OVERWRITE)
#define MAY_DECIDE(store, base) true
#elif defined(WHERE_LOWER)
#define MAY_DECIDE(store, base) (EPOCH(flag[store]) <= EPOCH(base))
#else
#define MAY_DECIDE(store, base) (EPOCH(flag[store]) == EPOCH(base))
#endif

/* A decision: one write, in the store of the primary before it. */
#define DECIDE(store, base, new) MAY_DECIDE(store, base) -> flag[store] = new; decided = (EPOCH(new) >= EPOCH(decided) -> new : decided)
#define COPY(from, to) if :: EPOCH(flag[from]) > EPOCH(flag[to]) -> flag[to] = flag[from] :: else fi
#define TURN(store, to) if :: term[store] < (to) -> term[store] = to :: else fi
#define TAKEN_BACK(fenced) FLAG(EPOCH(fenced) + 1, PRIMARY(fenced), 0)

#ifdef TAKE_BACK_ELSEWHERE
#define TAKE_BACK_AT(fenced) (1 - PRIMARY(fenced))
#else
#define TAKE_BACK_AT(fenced) PRIMARY(fenced)
#endif

/* What a replica says with its next beat: it has seen the fence, and has nothing under way. It stays true until it sees
   a later flag, or is gone. */
#define ACKNOWLEDGES(r, fenced) (EPOCH(view[r]) >= EPOCH(fenced) && !(FENCED(view[r]) && under_way[r]))
#define SEE(r, store) view[r] = (EPOCH(flag[store]) > EPOCH(view[r]) -> flag[store] : view[r])

/* A running proxy: its lease, its view of the flag. */
proctype replica(byte r) {
end:
  do
  :: atomic { !written[r] && EPOCH(flag[Legacy]) > EPOCH(view[r]) -> SEE(r, Legacy) }
  :: atomic { !written[r] && EPOCH(flag[Prisma]) > EPOCH(view[r]) -> SEE(r, Prisma) }
  :: atomic { !written[r] && r < LAPSING && seat[r] != Out && lapses < LAPSES ->
      lapses++; seat[r] = Out; interrupted[r] = true }
  /* register, then look at the flags, then hold */
  :: atomic { !written[r] && r < LAPSING && seat[r] == Out && returns < RETURNS ->
      returns++;
#ifdef HOLD_BEFORE_LOOK
      seat[r] = Holds }
#else
      seat[r] = Registered }
#endif
  :: atomic { seat[r] == Registered ->
      if :: SEE(r, Legacy) :: SEE(r, Prisma) fi;
      seat[r] = Holds }
  od
}

#if defined(NO_LEASE)
#define MAY_CONFIRM(r) true
#elif defined(ANY_TENURE)
#define MAY_CONFIRM(r) (seat[r] == Holds)
#else
#define MAY_CONFIRM(r) !interrupted[r]             /* the lease has not lapsed since the write began */
#endif

/* A write past its deadline is one whose replica has lapsed: nobody is told, and it may still land. */
proctype writer(byte r) {
  byte to; bool right;
end:                            /* a replica that does not come back writes nothing */
  atomic { seat[r] == Holds && !FENCED(view[r]) ->
    under_way[r] = true; interrupted[r] = false; to = PRIMARY(view[r]) };
  atomic {
    value[to] = r + 1; landings++; landed[r] = landings; right = (to == PRIMARY(decided));
    if :: to == Legacy -> stream++ :: else -> mark[r] = true fi
  };
  atomic {
    if
    :: MAY_CONFIRM(r) -> assert(right); confirmed[r] = true
    :: else
    fi;
    /* it leaves, and is waited for by nobody */
    under_way[r] = false; written[r] = true; interrupted[r] = false; seat[r] = Out; view[r] = 0; to = 0; right = false
  }
}

/* Settle in the direction, and with the term, of the flag that is seen. A secondary that has not heard of the term is
   told; one that knows a later one refuses, and the flags are looked at again. That the token comes before the read is
   the business of settle.pml. */
#define FROM PRIMARY(seen)
#define TO (1 - PRIMARY(seen))
#ifdef NO_TERM
#define HOPELESS(store) false
#else
#define HOPELESS(store) (term[1 - PRIMARY(flag[store])] > TERM(flag[store]))
#endif

inline settle(me) {
  atomic {
    direction[me] = 1 + FROM; read = value[FROM];
    for (i : 0 .. SETTLERS - 1) {
      if :: i != me && direction[i] == direction[me] -> earlier[me] = earlier[me] | (1 << i) :: else fi
    }
    i = 0
  };
  do
#if defined(NO_TERM)
  :: atomic { apply(me); break }
#elif defined(TERM_NOT_LOCKED)
  :: term[TO] == TERM(seen) -> atomic { apply(me); break }
#else
  :: atomic { term[TO] == TERM(seen) -> apply(me); break }
#endif
#ifndef NO_TERM
  :: atomic { term[TO] < TERM(seen) -> term[TO] = TERM(seen) }
  :: atomic { term[TO] > TERM(seen) -> end_settle(me); break }
#endif
  od
}

inline apply(me) {
  if
  :: superseded[me]
  :: else ->
    value[TO] = read;
    for (i : 0 .. SETTLERS - 1) { if :: earlier[me] & (1 << i) -> superseded[i] = true :: else fi }
  fi;
  done = true;
  end_settle(me)
}

inline end_settle(me) {
  for (i : 0 .. SETTLERS - 1) { earlier[i] = earlier[i] & ~(1 << me) };
  earlier[me] = 0; direction[me] = 0; superseded[me] = false; read = 0; seen = 0; i = 0
}

/* Both work for as long as there is something to do, and begin only what is not sure to be refused. */
active proctype follower() {    /* the change stream of legacy */
  byte seen, read, i, position; bool done;
end:
  do
  :: atomic { settled < stream ->
      if :: !HOPELESS(Legacy) -> seen = flag[Legacy] :: !HOPELESS(Prisma) -> seen = flag[Prisma] fi;
      position = stream };
    settle(0);
    atomic { if :: done -> settled = position :: else fi; position = 0; done = false }
  od
}

active proctype sweeper() {     /* the outbox of prisma */
  byte seen, read, i, n; bool done;
end:
  do
  :: atomic { (mark[0] || mark[WRITES - 1]) ->
      if :: !HOPELESS(Legacy) -> seen = flag[Legacy] :: !HOPELESS(Prisma) -> seen = flag[Prisma] fi;
      if :: mark[0] -> n = 0 :: mark[WRITES - 1] -> n = WRITES - 1 fi };
    settle(1);
    atomic { if :: done -> mark[n] = false :: else fi; n = 0; done = false }
  od
}

#if STRAYS
active [STRAYS] proctype stray() {
  byte seen, read, i; bool done;
  atomic { landings -> if :: seen = flag[Legacy] :: seen = flag[Prisma] fi };
  settle(2);
  done = false
}
#endif

#define DRAINED(fenced) ((PRIMARY(fenced) == Prisma && NO_MARKS) || (PRIMARY(fenced) == Legacy && settled >= upto))
#if WRITES > 1
#define NO_MARKS (!mark[0] && !mark[1])
#else
#define NO_MARKS !mark[0]
#endif

inline drain() {
  upto = stream;                /* the beacon */
  if
  :: DRAINED(fenced)
  OR_DIE
  fi
}

#define NEXT (EPOCH(fenced) + 1)
#define OLD PRIMARY(fenced)
#define NEW (1 - PRIMARY(fenced))

/* To give up is to die: what the coordinator would take back, the watch takes back. */
proctype coordinator(byte n) {
  byte fenced, upto, r;
  atomic {
    begun == n -> begun++;      /* they are alike: one order is every order */
    if :: fenced = flag[Legacy] :: fenced = flag[Prisma] fi;
    if
    :: FENCED(fenced) -> fenced = 0; goto died     /* somebody else's: the watch takes it back */
    :: else
    fi
  };
  atomic {                      /* still the flag before the fence */
    if
    :: DECIDE(OLD, fenced, FLAG(NEXT, OLD, 1)); fenced = FLAG(NEXT, OLD, 1)
    :: else -> goto died
    fi
  };
#ifndef FENCE_ONE_STORE
  atomic { if :: COPY(OLD, NEW) OR_DIE fi };
#endif
#ifdef DRAIN_FIRST
  drain();
#endif
  do
  :: r < WRITES ->
    if
    :: atomic { seat[r] == Out || ACKNOWLEDGES(r, fenced) -> r++ }
    OR_DIE
    fi
  :: r == WRITES -> break
  od;
#ifndef DRAIN_FIRST
  drain();
#endif
#ifndef DECIDE_FIRST
  atomic { if :: TURN(NEW, NEXT) OR_DIE fi };
#endif
  atomic {
    if
    :: DECIDE(OLD, fenced, FLAG(NEXT, NEW, 0)); FLIPPED
    :: else -> goto died
    OR_DIE
    fi
  };
  atomic { if :: TURN(OLD, NEXT) OR_DIE fi };
#ifdef DECIDE_FIRST
  TURN(NEW, NEXT);
#endif
  goto died;                    /* copied by the watch, if not by the coordinator */
died:
  atomic { fenced = 0; upto = 0; r = 0 }
}

/* What every living replica does about flags: whoever sees one store behind copies, whoever sees a fence that is too old
   takes it back. Old is whatever the clock likes: the coordinator may be alive. */
#define TAKES_BACK(store) FENCED(flag[store]) && MAY_DECIDE(TAKE_BACK_AT(flag[store]), flag[store])

active proctype watch() {
  byte fenced;
end:
  do
#ifndef NO_COPIES
  :: atomic { EPOCH(flag[Legacy]) > EPOCH(flag[Prisma]) -> flag[Prisma] = flag[Legacy] }
  :: atomic { EPOCH(flag[Prisma]) > EPOCH(flag[Legacy]) -> flag[Legacy] = flag[Prisma] }
#endif
#ifndef NO_WATCH
  :: atomic { TAKES_BACK(Legacy) -> fenced = flag[Legacy];
      if :: DECIDE(TAKE_BACK_AT(fenced), fenced, TAKEN_BACK(fenced)) fi; fenced = 0 }
  :: atomic { TAKES_BACK(Prisma) -> fenced = flag[Prisma];
      if :: DECIDE(TAKE_BACK_AT(fenced), fenced, TAKEN_BACK(fenced)) fi; fenced = 0 }
#endif
  od
}

active proctype monitor() {
end:
  atomic { EPOCH(flag[Legacy]) == EPOCH(flag[Prisma]) && flag[Legacy] != flag[Prisma] -> assert(false) }
}

#ifdef REACH
/* Not a rule: shows that flips happen, with writes between them. */
active proctype reached() {
end:
  atomic { flips == FLIPS && PRIMARY(decided) == FLIPS % 2 && written[0] && written[WRITES - 1] && value[Legacy] == value[Prisma]
    -> assert(false) }
}
#endif

#define NOW value[PRIMARY(decided)]
#define KEPT(r) (!confirmed[r] || NOW == r + 1 || (NOW && landed[NOW - 1] > landed[r]))
#define MADE(r) (written[r] || seat[r] == Out)

init {
  byte r;
  atomic {
    for (r : 0 .. WRITES - 1) { seat[r] = Holds; run replica(r); run writer(r) };
    for (r : 1 .. FLIPS) { run coordinator(r - 1) };
    r = 0
  };
  timeout ->
  assert(value[Legacy] == value[Prisma] && settled == stream && NO_MARKS);
  assert(flag[Legacy] == flag[Prisma] && !FENCED(decided) && flag[Legacy] == decided);
  for (r : 0 .. WRITES - 1) { assert(KEPT(r)); assert(MADE(r)) }
}
