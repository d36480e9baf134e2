# Strata: run Transformers with hooks and trace how they recall facts.
#
# `make` prints the targets. Knobs (make NAME=value):
#   CC        compiler                              (cc)
#   BUILD     folder for objects and programs       (build)
#   PREFIX    where `make install` puts things      (/usr/local)
#   SANITIZE  e.g. address,undefined: an instrumented build in its own folder
#   WERROR    1: warnings are errors                (0; lint and CI use 1)
#   NATIVE    1: tune for this very machine; the program may not start elsewhere (0)
#   PEERS     a Python with torch and transformers, for `make bench`

CC       ?= cc
PREFIX   ?= /usr/local
SANITIZE ?=
WERROR   ?= 0
NATIVE   ?= 0
BUILD    ?= build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))$(if $(filter 1,$(NATIVE)),/native)
comma    := ,
VERSION  := 0.1.0

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
PKGS     := openblas hdf5 libpcre2-8 libutf8proc jansson libcrypto
# One pkg-config call each, only when something is built.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) | sed 's/-I/-isystem /g'))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS)) -lm -lpthread)$(PKG_LIBS)

# Contraction off: the same source gives the same bits on every compiler; kernels that want FMA ask for it (ISA_FLAGS).
STRATA_CFLAGS = -std=c11 -D_POSIX_C_SOURCE=200809L -DSTRATA_VERSION='"$(VERSION)"' -I. $(PKG_CFLAGS) \
                -O3 -g -ffp-contract=off -fno-math-errno -fno-trapping-math -fstack-protector-strong -fPIE \
                $(WARNINGS) $(if $(filter 1,$(WERROR)),-Werror) $(if $(filter 1,$(NATIVE)),-march=native) \
                $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all,-D_FORTIFY_SOURCE=2)
LDFLAGS_ALL   = -pie -Wl,-z,relro,-z,now $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(LDFLAGS)

SRCS      := $(wildcard core/*.c core/*/*.c probes/*.c)
CLI_SRCS  := $(wildcard analyses/*.c analyses/*/*.c)
# Compiled once per instruction set (core/base/isa.h), and once per precision (core/runtime/real.h).
ISA_SRCS  := $(filter %_isa.c,$(SRCS))
REAL_SRCS := $(filter %_real.c,$(SRCS))
ISAS      := base
ifeq ($(shell uname -m),x86_64)
ISAS      += v3 v4
endif
ISA_FLAGS_v3 := -march=x86-64-v3 -ffp-contract=fast
ISA_FLAGS_v4 := -march=x86-64-v4 -mprefer-vector-width=512 -ffp-contract=fast

PLAIN_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(ISA_SRCS) $(REAL_SRCS),$(SRCS)))
ISA_OBJS   := $(foreach isa,$(ISAS),$(patsubst %.c,$(BUILD)/%.$(isa).o,$(ISA_SRCS)))
REAL_OBJS  := $(foreach real,f32 f64,$(patsubst %.c,$(BUILD)/%.$(real).o,$(REAL_SRCS)))
LIB_OBJS   := $(PLAIN_OBJS) $(ISA_OBJS) $(REAL_OBJS)
CLI_OBJS   := $(patsubst %.c,$(BUILD)/%.o,$(CLI_SRCS))
LIB        := $(BUILD)/libstrata.a
STRATA     := $(BUILD)/strata
