# Strata: run Transformers with hooks and trace how they recall facts.
#
# `make` prints the targets. V=1 shows the commands. Knobs (make NAME=value):
#   CC        compiler                              (cc)
#   BUILD     folder for objects and programs       (build)
#   PREFIX    where `make install` puts things      (/usr/local)
#   SANITIZE  e.g. address,undefined: an instrumented build in its own folder
#   COVERAGE  1: counts executed lines, in its own folder (make coverage)
#   WERROR    1: warnings are errors                (0; lint and CI use 1)
#   NATIVE    1: tune for this very machine; the program may not start elsewhere (0)
#   PEERS     a Python with torch and transformers, for `make bench`
#   PROMPTS   how many `make soak` streams          (100000)
#   FUZZ_SECONDS  how long `make fuzz` runs each target  (60)
#   KILLS     how often `make torture` kills each kind of run  (200)

CC       ?= cc
PREFIX   ?= /usr/local
SANITIZE ?=
COVERAGE ?= 0
WERROR   ?= 0
NATIVE   ?= 0
FUZZ_SECONDS ?= 60
PROMPTS  ?= 100000
KILLS    ?= 200
BUILD    ?= build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))$(if $(filter 1,$(NATIVE)),/native)$(if $(filter 1,$(COVERAGE)),/coverage)
comma    := ,
VERSION  := 0.1.0
Q        := $(if $(V),,@)

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror=implicit-function-declaration
PKGS     := openblas hdf5 libpcre2-8 libutf8proc jansson libcrypto
# One pkg-config call each, only when something is built.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) | sed 's/-I/-isystem /g'))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS)) -lm -lpthread)$(PKG_LIBS)

# What a wrong length or pointer meets: canaries, checked memcpy and friends, an unpredictable address, read-only tables,
# no stack that jumps over its guard page, and jumps to marked places only where the processor can check that.
MACHINE   := $(shell uname -m)
HARDENING := -fstack-protector-strong -fstack-clash-protection -fPIE \
             $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3) \
             $(if $(filter x86_64,$(MACHINE)),-fcf-protection=full) \
             $(if $(filter aarch64,$(MACHINE)),-mbranch-protection=standard)

# Contraction off: the same source gives the same bits on every compiler; kernels that want FMA ask for it (ISA_FLAGS).
STRATA_CFLAGS = -std=c11 -D_POSIX_C_SOURCE=200809L -DSTRATA_VERSION='"$(VERSION)"' -I. $(PKG_CFLAGS) \
                -O3 -g -ffp-contract=off -fno-math-errno -fno-trapping-math $(HARDENING) \
                $(WARNINGS) $(if $(filter 1,$(WERROR)),-Werror) $(if $(filter 1,$(NATIVE)),-march=native) \
                $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all) \
                $(if $(filter 1,$(COVERAGE)),--coverage -O1)
LDFLAGS_ALL   = -pie -Wl,-z,relro,-z,now,-z,noexecstack $(if $(SANITIZE),-fsanitize=$(SANITIZE)) \
                $(if $(filter 1,$(COVERAGE)),--coverage) $(LDFLAGS)

SRCS      := $(wildcard core/*.c core/*/*.c probes/*.c)
CLI_SRCS  := $(wildcard analyses/*.c analyses/*/*.c)
# Compiled once per instruction set (core/base/isa.h), and once per precision (core/runtime/real.h).
ISA_SRCS  := $(filter %_isa.c,$(SRCS))
REAL_SRCS := $(filter %_real.c,$(SRCS))
ISAS      := base
ifeq ($(MACHINE),x86_64)
ISAS      += v3 v4
endif
ISA_FLAGS_v3 := -march=x86-64-v3 -ffp-contract=fast
ISA_FLAGS_v4 := -march=x86-64-v4 -mprefer-vector-width=512 -ffp-contract=fast

PLAIN_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(ISA_SRCS) $(REAL_SRCS),$(SRCS)))
ISA_OBJS   := $(foreach isa,$(ISAS),$(patsubst %.c,$(BUILD)/%.$(isa).o,$(ISA_SRCS)))
REAL_OBJS  := $(foreach real,f32 f64,$(patsubst %.c,$(BUILD)/%.$(real).o,$(REAL_SRCS)))
ASM_OBJS   := $(patsubst %.S,$(BUILD)/%.o,$(wildcard core/*/*.S))
LIB_OBJS   := $(PLAIN_OBJS) $(ISA_OBJS) $(REAL_OBJS) $(ASM_OBJS)
CLI_OBJS   := $(patsubst %.c,$(BUILD)/%.o,$(CLI_SRCS))
LIB        := $(BUILD)/libstrata.a
STRATA     := $(BUILD)/strata
FUZZ_SRCS  := $(wildcard tests/fuzz/fuzz_*.c)
TEST_SRCS  := $(wildcard tests/unit/test_*.c tests/golden/test_*.c) $(FUZZ_SRCS)
TESTS      := $(patsubst %.c,$(BUILD)/%,$(TEST_SRCS))
FAIL_ALLOC := $(BUILD)/tests/faults/fail_alloc.so
FUZZ_SEEDS := $(BUILD)/fuzz/seeds/made
BENCH_SRCS := $(wildcard tests/bench/*.c)
BENCHES    := $(patsubst %.c,$(BUILD)/%,$(BENCH_SRCS))

.DEFAULT_GOAL := help
.PHONY: help deps build objects demo test torture families bench soak asan tsan stress coverage coverage-programs faults fuzz fuzzers lint tidy format data-check install clean

help:
	@echo 'Strata $(VERSION): make TARGET'
	@echo '  demo        trace one fact on a real model, from nothing: installs, builds, fetches, runs'
	@echo '  test        build and run every test; ends with "N passed, N failed"'
	@echo '  build       the program ($(STRATA)) and library ($(LIB)), portable, optimised'
	@echo '  torture     SIGKILL, KILLS=$(KILLS) times each kind of run, and simulated power losses; half an hour'
	@echo '  deps        install the Debian packages that building and testing need'
	@echo '  bench       speed, as ratios measured on this machine (PEERS=PYTHON adds PyTorch)'
	@echo '  soak        $(PROMPTS) prompts through each command that streams: memory stays flat (tests/bench/soak.svg)'
	@echo '  asan        every test again under the address and undefined-behaviour sanitizers'
	@echo '  tsan        tests of what runs in threads, under the thread sanitizer'
	@echo '  stress      the golden references under every BLAS core type, instruction set and 1, 2, 4 threads: minutes'
	@echo '  coverage    lines and branches that the tests reach, per folder'
	@echo '  faults      every allocation and system call of whole commands fails once: half an hour or more'
	@echo '  fuzz        every parser under libFuzzer, FUZZ_SECONDS=$(FUZZ_SECONDS) each (tests/fuzz/README.md)'
	@echo '  lint        warnings as errors on gcc and clang, clang-format, cppcheck, clang-tidy, gcc -fanalyzer'
	@echo '  families    write docs/families.md: what is compared with the reference for each family, and its errors'
	@echo '  tidy        the last two over all sources: minutes'
	@echo '  data-check  validate data/facts'
	@echo '  install     to PREFIX=$(PREFIX): program, headers, static library, pkg-config file'
	@echo '  clean       remove build/'

deps:
	@tests/deps.sh

build: $(STRATA) $(LIB)

# Everything compiled, nothing linked: what lint needs.
objects: $(LIB_OBJS) $(CLI_OBJS) $(patsubst %.c,$(BUILD)/%.o,$(TEST_SRCS) tests/fuzz/replay.c $(BENCH_SRCS))

demo: deps
	@$(MAKE) --no-print-directory -j$$(nproc) build
	@STRATA=$(STRATA) tests/demo.sh

test: deps
	@$(MAKE) --no-print-directory -j$$(nproc) build $(TESTS) $(FUZZ_SEEDS) $(FAIL_ALLOC)
	@BUILD=$(BUILD) STRATA=$(STRATA) SKIP="$(SKIP)" tests/run.sh

# What CI does 20 times a kind (tests/cli/kill.bats, sweeps.bats, power_loss.bats); one kind: tests/durability/torture.py.
torture: deps
	@$(MAKE) --no-print-directory -j$$(nproc) build
	@tests/durability/torture.py --strata $(STRATA) --kills $(KILLS) all
	@tests/durability/power_loss.py --strata $(STRATA) --losses $(KILLS) --size 0.2 dump shards lens csv causal knockout \
	    heads neurons experiment trace each figures

# The table of what is proven for each family, written by the test that proves it.
families: deps
	@$(MAKE) --no-print-directory -j$$(nproc) $(BUILD)/tests/golden/test_models $(BUILD)/tests/golden/test_tokenizers
	@mkdir -p docs && export FAMILIES_TABLE=docs/families.md && $(BUILD)/tests/golden/test_models 2>/dev/null && \
	    $(BUILD)/tests/golden/test_tokenizers 2>/dev/null

# Sweeps that take minutes under sanitizers; unit tests run what they call. `make asan SKIP=` leaves nothing out.
asan: SKIP ?= causal.bats sweeps.bats trace_stages.bats
asan: deps
	@SKIP="$(SKIP)" $(MAKE) --no-print-directory -j$$(nproc) SANITIZE=address,undefined test

# Tests in which threads of ours run: the pool, passes, replays, the lens, probes with tasks of their own, the writer's
# queue, the loader, a tokenizer that is shared; not test_stages, which takes as long as all and runs nothing else.
THREAD_TESTS := $(addprefix tests/unit/test_,replay store_lens runtime fact_trace causal_trace heads extraction \
    store_stream store_dump tokenizer knockout heads_map neurons patching model weights_stream stop pool logit_lens lens_batch)
tsan: deps
	@$(MAKE) --no-print-directory -j$$(nproc) SANITIZE=thread $(addprefix $(BUILD)/thread/,$(THREAD_TESTS))
	@printf '%s\n' $(THREAD_TESTS) | xargs -P "$$(nproc)" -I {} sh -c 'test=$(BUILD)/thread/{}; \
	    TSAN_OPTIONS="suppressions=tests/tsan.txt halt_on_error=1" $$test >$$test.log 2>&1 || \
	        { tail -n 60 $$test.log; echo "  {}: FAILED"; exit 255; }; echo "  {}: no race"'

# tests/run.sh has a slice of it (tests/cli/threads.bats).
stress: deps
	@$(MAKE) --no-print-directory -j$$(nproc) build $(addprefix $(BUILD)/tests/golden/test_,models lens smollm2)
	@BUILD=$(BUILD) tests/stress.sh

coverage: deps
	@$(MAKE) --no-print-directory -j$$(nproc) COVERAGE=1 coverage-programs
	@BUILD=$(BUILD)/coverage tests/coverage.sh

fuzz: deps
	@tests/deps.sh fuzz
	@$(MAKE) --no-print-directory -j$$(nproc) build $(FUZZ_SEEDS)
	@$(MAKE) --no-print-directory -j$$(nproc) CC=clang BUILD=$(BUILD)/fuzz SANITIZE=fuzzer-no-link,address,undefined fuzzers
	@BUILD=$(BUILD) FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh
	@AFL_QUIET=1 $(MAKE) --no-print-directory -j$$(nproc) CC=afl-clang-fast BUILD=$(BUILD)/afl $(BUILD)/afl/tests/fuzz/fuzz_h5
	@BUILD=$(BUILD) FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/afl.sh

faults: deps
	@$(MAKE) --no-print-directory -j$$(nproc) build $(FAIL_ALLOC)
	@export STRATA=$(STRATA) BUILD=$(BUILD) && python3 tests/faults/faults.py alloc && \
	    python3 tests/faults/faults.py alloc --libraries && python3 tests/faults/faults.py io

coverage-programs: build $(TESTS) $(FUZZ_SEEDS)

fuzzers: $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(FUZZ_SRCS))

bench: build
	@$(MAKE) --no-print-directory -j$$(nproc) $(BENCHES)
	@BUILD=$(BUILD) STRATA=$(STRATA) PEERS=$(PEERS) tests/bench/run.sh

# Drawn where the graph that is committed lies: `make soak` with the standard number draws it anew.
soak: build
	@python3 tests/bench/soak.py $(STRATA) data/tiny $(PROMPTS) $(BUILD)/soak.dat
	@gnuplot -e "from='$(BUILD)/soak.dat'; to='tests/bench/soak.svg'; prompts='$(PROMPTS)'" tests/bench/soak.gp

lint: deps
	@tests/lint.sh

# gcc -fanalyzer and clang-tidy over everything; lint does so over what reads untrusted files.
tidy: deps
	@tests/deps.sh lint
	@tests/analyse.sh

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

data-check:
	@python3 data/check_facts.py

install: build
	install -D -m755 $(STRATA) $(DESTDIR)$(PREFIX)/bin/strata
	install -D -m644 $(LIB) $(DESTDIR)$(PREFIX)/lib/libstrata.a
	install -D -m644 core/strata.h $(DESTDIR)$(PREFIX)/include/strata/strata.h
	for h in $$($(CC) $(STRATA_CFLAGS) -MM core/strata.h | grep -oE '(core/[a-z]+|probes)/[a-z0-9_]+\.h'); do \
	    install -D -m644 $$h $(DESTDIR)$(PREFIX)/include/strata/$$h; done
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig
	sed -e 's|@PREFIX@|$(abspath $(PREFIX))|' -e 's|@VERSION@|$(VERSION)|' -e 's|@REQUIRES@|$(PKGS)|' core/strata.pc.in \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/strata.pc

clean:
	rm -rf build

$(STRATA): $(CLI_OBJS) $(LIB)
	$(Q)$(CC) -o $@ $(CLI_OBJS) $(LIB) $(LDFLAGS_ALL) $(PKG_LIBS)

# Made anew, so that an object whose source is gone does not linger.
$(LIB): $(LIB_OBJS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(LIB_OBJS)

# Changes when the flags do, so that no object keeps old ones.
FLAGS = $(BUILD)/flags
.PHONY: always
$(FLAGS): always
	@mkdir -p $(@D)
	@echo '$(subst ',,$(filter-out -Werror,$(STRATA_CFLAGS) $(CFLAGS)))' | cmp -s - $@ || \
	    echo '$(subst ',,$(filter-out -Werror,$(STRATA_CFLAGS) $(CFLAGS)))' >$@

$(BUILD)/%.o: %.c $(FLAGS)
	@mkdir -p $(@D)
	$(Q)echo '  CC $@'; $(CC) $(STRATA_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.S $(FLAGS)
	@mkdir -p $(@D)
	$(Q)echo '  AS $@'; $(CC) $(HARDENING) -c -o $@ $<

$(BUILD)/core/model/embedded.o: $(addprefix data/tiny/,config.json model.safetensors tokenizer.json)

define ISA_RULE
$(BUILD)/%_isa.$(1).o: %_isa.c $(FLAGS)
	@mkdir -p $$(@D)
	$(Q)echo '  CC $$@'; $(CC) $$(STRATA_CFLAGS) $$(ISA_FLAGS_$(1)) $$(CFLAGS) -DISA=$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach isa,$(ISAS),$(eval $(call ISA_RULE,$(isa))))

$(BUILD)/%_real.f32.o: %_real.c $(FLAGS)
	@mkdir -p $(@D)
	$(Q)echo '  CC $@'; $(CC) $(STRATA_CFLAGS) $(CFLAGS) -DREAL_BITS=32 -MMD -MP -c -o $@ $<

$(BUILD)/%_real.f64.o: %_real.c $(FLAGS)
	@mkdir -p $(@D)
	$(Q)echo '  CC $@'; $(CC) $(STRATA_CFLAGS) $(CFLAGS) -DREAL_BITS=64 -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: tests/%.c $(LIB)
	@mkdir -p $(@D)
	$(Q)echo '  CC $@'; $(CC) $(STRATA_CFLAGS) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(filter %.o,$^) $(LIB) $(LDFLAGS_ALL) $(PKG_LIBS) -lcmocka

# Neither instrumented nor hardened: it lies under the program's own calls.
$(BUILD)/tests/faults/%.so: tests/faults/%.c
	@mkdir -p $(@D)
	$(Q)echo '  CC $@'; $(CC) -std=c11 -O2 $(WARNINGS) $(if $(filter 1,$(WERROR)),-Werror) -shared -fPIC -o $@ $< -ldl -lpthread

$(BUILD)/fuzz_%: tests/fuzz/fuzz_%.c $(LIB)
	$(Q)echo '  CC $@'; $(CC) $(STRATA_CFLAGS) $(CFLAGS) -fsanitize=fuzzer -o $@ $< $(LIB) $(LDFLAGS_ALL) $(PKG_LIBS)

$(FUZZ_SEEDS): tests/fuzz/make_seeds.py $(STRATA)
	@rm -rf $(@D) && python3 $< $(STRATA) $(@D) && touch $@

# A test of what is not in the library names those objects.
$(BUILD)/tests/unit/test_plot: $(filter $(BUILD)/analyses/plot/%,$(CLI_OBJS)) $(BUILD)/analyses/cli/signals.o
$(BUILD)/tests/unit/test_progress_bar: $(BUILD)/analyses/cli/progress_bar.o
$(BUILD)/tests/unit/test_curves_report: $(filter $(BUILD)/analyses/plot/% $(BUILD)/analyses/report/curves_% \
    $(BUILD)/analyses/report/page.o,$(CLI_OBJS)) $(BUILD)/analyses/cli/signals.o
$(patsubst %.c,$(BUILD)/%,$(FUZZ_SRCS)): $(BUILD)/tests/fuzz/replay.o
# Plants faults between the model and its checks.
$(BUILD)/tests/unit/test_verify: LDFLAGS_ALL += -Wl,--wrap=runtime_forward
# Fails when it is told to.
$(BUILD)/tests/unit/test_pool: LDFLAGS_ALL += -Wl,--wrap=pthread_create

-include $(LIB_OBJS:.o=.d) $(CLI_OBJS:.o=.d) $(addsuffix .d,$(TESTS) $(BENCHES))
