# notif: build, install and test.  `make help` lists the targets.
#
# The targets fall into three groups, kept apart on purpose:
#   1. what needs a server's build files (all, install): PGXS, below;
#   2. what needs only a C compiler (unit, lint, fuzz, script);
#   3. what must start on a machine with nothing but git, make and gcc
#      (test, demo, bench): these run scripts of test/run/, which install what
#      is missing and come back here with everything in place.

EXTENSION  = notif
MODULE_big = notif
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" notif.control)

# ---- sources ----------------------------------------------------------------

# Folders below src/ do not know PostgreSQL; files directly in src/ and
# bgworker/ do.  test/lint/check-layers.sh holds them to it.
PORTABLE_DIRS = core crypto message net provider
PORTABLE_SRCS = $(sort $(wildcard $(PORTABLE_DIRS:%=src/%/*.c)))
SERVER_SRCS   = $(sort $(wildcard src/*.c bgworker/*.c))
PORTABLE_LIBS = -lnghttp2 -lssl -lcrypto -lcares

SERVER_OBJS   = $(SERVER_SRCS:.c=.o)
OBJS          = $(SERVER_OBJS) $(PORTABLE_SRCS:.c=.o)

SCRIPT        = sql/$(EXTENSION)--$(EXTVERSION).sql
SQL_MODULES   = $(sort $(wildcard sql/[0-9][0-9]-*.sql))

DATA          = $(wildcard sql/upgrade/$(EXTENSION)--*--*.sql)
DATA_built    = $(SCRIPT)
SHLIB_LINK    = $(PORTABLE_LIBS)
EXTRA_CLEAN   = build $(OBJS:.o=.d) sql/$(EXTENSION)--*.sql results output_iso tmp_check tmp_check_iso log

# ---- flags ------------------------------------------------------------------

# WERROR= (empty) builds with a compiler that warns about more than ours do.
WERROR   ?= -Werror
WARNINGS  = -std=gnu11 -Wall -Wextra $(WERROR)

PG_CPPFLAGS = -Isrc -MMD -MP -DNOTIF_RELEASE=$(EXTVERSION)
PG_CFLAGS   = $(WARNINGS) -Wno-declaration-after-statement

# Fault points (test/t drives them) are compiled in on demand only.
ifeq ($(FAULTS),1)
PG_CPPFLAGS += -DNOTIF_FAULTS
endif

# ---- group 1: PGXS ----------------------------------------------------------

# Bitcode would double the build time and inlines nothing of ours.
override with_llvm = no

# pgxs.mk alone may be there without the headers: the client's package has it.
usable_pg_config = $(if $(wildcard $(shell $(1) --pgxs 2>/dev/null)),$(if \
	$(wildcard $(shell $(1) --includedir-server 2>/dev/null)/postgres.h),$(1)))
ifndef PG_CONFIG
PG_CONFIG := $(firstword $(call usable_pg_config,pg_config) \
	$(foreach p,$(wildcard /usr/lib/postgresql/15/bin/pg_config),$(call usable_pg_config,$(p))))
endif
ifneq ($(PG_CONFIG),)
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
endif

.DEFAULT_GOAL := all

ifneq ($(PGXS),)

# As system headers the server's own headers may be less strict than we are.
PG_CPPFLAGS += -isystem $(shell $(PG_CONFIG) --includedir-server)

include $(PGXS)

# The server's CFLAGS were chosen for gcc; clang must not fail on the ones it
# does not have.
ifneq ($(findstring clang,$(shell $(CC) --version 2>/dev/null)),)
override CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-unused-command-line-argument
endif

# SQL-callable functions and worker entry points have fixed signatures.
$(SERVER_OBJS): private override CFLAGS += -Wno-unused-parameter

# Objects built with other flags (FAULTS, another server) are not reused.
$(OBJS): build/flags
build/flags: FORCE
	@mkdir -p build; echo '$(CC) $(CPPFLAGS) $(CFLAGS)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS) $(CFLAGS)' > $@

-include $(OBJS:.o=.d)

else

all install uninstall installdirs:
	@echo 'notif: no usable pg_config found.' >&2
	@echo 'Install the server headers (Debian: postgresql-server-dev-15), or run' >&2
	@echo 'test/run/install-deps.sh, or point to it: make PG_CONFIG=/path/to/pg_config' >&2
	@exit 1

clean:
	rm -rf $(EXTRA_CLEAN) $(OBJS) $(MODULE_big).so

endif

# ---- group 2: what needs no server ------------------------------------------

# The install script: modules in order; a *.tier.sql once per tier.  Always
# assembled anew, written only if it differs.
script: $(SCRIPT)
$(SCRIPT): FORCE
	@for f in $(SQL_MODULES); do \
		case $$f in \
		*.tier.sql) \
			n=0; for t in critical standard bulk; do \
				sed -e "s/@TIER@/$$t/g" -e "s/@TIERNO@/$$n/g" $$f || exit 1; n=$$((n + 1)); \
			done;; \
		*) cat $$f || exit 1;; \
		esac; \
	done > $@.tmp
	@if cmp -s $@.tmp $@; then rm -f $@.tmp; else mv -f $@.tmp $@; fi

# Unit tests link the layers below PostgreSQL and nothing else, with the
# address and undefined-behaviour sanitizers unless SAN is emptied.
SAN         ?= -fsanitize=address,undefined -fno-sanitize-recover=undefined
UNIT_CFLAGS  = $(WARNINGS) -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer $(SAN) -Isrc -Itest/unit -MMD -MP
UNIT_TESTS   = $(patsubst test/unit/%.c,build/unit/%,$(sort $(wildcard test/unit/test_*.c)))
UNIT_SUPPORT = $(filter-out test/unit/test_%,$(sort $(wildcard test/unit/*.c)))
UNIT_LIBOBJS = $(patsubst %.c,build/unit/obj/%.o,$(PORTABLE_SRCS) $(UNIT_SUPPORT))

build/unit/obj/%.o: %.c build/unit/flags
	@mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -c -o $@ $<

build/unit/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(UNIT_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(UNIT_CFLAGS)' > $@

build/unit/libportable.a: $(UNIT_LIBOBJS)
	@mkdir -p $(@D); rm -f $@
	ar rcs $@ $^

$(UNIT_TESTS): build/unit/%: build/unit/obj/test/unit/%.o build/unit/libportable.a
	$(CC) $(UNIT_CFLAGS) -o $@ $^ $(PORTABLE_LIBS) -ljansson -lm

.PRECIOUS: build/unit/obj/%.o
-include $(UNIT_LIBOBJS:.o=.d) $(UNIT_TESTS:build/unit/%=build/unit/obj/test/unit/%.d)

unit-build: $(UNIT_TESTS)

# The same layers as the server gets them, for what measures them without one.
PLAIN_CFLAGS = $(WARNINGS) -D_GNU_SOURCE -O2 -g -Isrc -MMD -MP
PLAIN_OBJS   = $(patsubst %.c,build/plain/obj/%.o,$(PORTABLE_SRCS))

build/plain/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(PLAIN_CFLAGS) -c -o $@ $<

build/plain/libportable.a: $(PLAIN_OBJS)
	@mkdir -p $(@D); rm -f $@
	ar rcs $@ $^

-include $(PLAIN_OBJS:.o=.d)

plain: build/plain/libportable.a

unit: unit-build
	@test/run/unit.sh

lint: script
	@test/lint/run.sh

FUZZ_SECONDS ?= 30
FUZZ_CC      ?= $(firstword $(shell command -v clang clang-14 2>/dev/null) clang)
FUZZERS       = $(patsubst test/fuzz/%.c,build/fuzz/%,$(sort $(wildcard test/fuzz/*.c)))

build/fuzz/%: test/fuzz/%.c $(PORTABLE_SRCS)
	@mkdir -p $(@D)
	$(FUZZ_CC) -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-Isrc -o $@ $^ $(PORTABLE_LIBS) -ljansson -lm

fuzz-build: $(FUZZERS)

fuzz:
	@test/run/install-deps.sh fuzz
	@$(MAKE) --no-print-directory fuzz-build
	@FUZZ_SECONDS=$(FUZZ_SECONDS) test/run/fuzz.sh

sandbox:
	$(MAKE) -C test/sandbox

# ---- group 3: what starts from a bare machine -------------------------------

# Everything with a server runs in a private copy of checkout and server as an
# unprivileged user: test/run/as-user.sh.
test:
	@test/run/test.sh

regress isolation tap:
	@test/run/install-deps.sh && test/run/as-user.sh test/run/$@.sh

demo:
	@test/run/install-deps.sh && KEEP='$(KEEP)' test/run/as-user.sh test/demo/run.sh

bench:
	@test/run/install-deps.sh >&2 && ONLY='$(ONLY)' test/run/as-user.sh test/bench/run.sh

chaos:
	@test/run/install-deps.sh >&2 && ITER='$(ITER)' SEED='$(SEED)' test/run/as-user.sh test/run/chaos.sh

help:
	@echo 'make              build (needs pg_config; FAULTS=1 adds fault points)'
	@echo 'make install      install into the server of pg_config'
	@echo 'make test         every suite; installs what is missing first'
	@echo 'make unit lint regress isolation tap    one suite'
	@echo 'make demo         a throw-away cluster sends to the sandbox; KEEP=1 leaves it running'
	@echo 'make bench        figures; ONLY=name runs one'
	@echo 'make fuzz         every fuzzer for FUZZ_SECONDS (30) each'
	@echo 'make chaos        ITER=20 deaths of workers and server under load, and what the checker says'
	@echo 'make sandbox      the provider stand-in alone'
	@echo 'make clean'

clean: sandbox-clean
sandbox-clean:
	@if [ -e test/sandbox/Makefile ]; then $(MAKE) --no-print-directory -C test/sandbox clean; fi

.PHONY: script plain sandbox-clean unit unit-build lint fuzz fuzz-build sandbox test regress isolation tap demo bench chaos help FORCE
FORCE:
