/*
 * Reading dump and lens files of unknown origin: what describes the rows in
 * memory, the sites themselves read in pieces by whoever needs them.
 *
 *     struct dump_data d;
 *     if (dump_data_open(&d, "a.h5", &err)) ...
 *     for (size_t s = 0; s < d.n_sites; s++)
 *         read with h5_dataset_open(&set, &d.file, d.sites[s].path, &err) and h5_dataset_read(...);
 *     dump_data_close(&d);
 *
 * Complete and partial files: of a partial one its whole prompts. Numbers that
 * serve as indices are checked; shapes of sites are the reader's to check.
 */
#ifndef STRATA_STORE_DUMP_DATA_H
#define STRATA_STORE_DUMP_DATA_H

#include "core/store/h5.h"

enum dump_kind { DUMP_KIND_DUMP, DUMP_KIND_LENS };

struct dump_data_site {
    char *path; /* "/activations/blocks.3.attn.hook_z", owned */
    char *name; /* what follows "/activations/" (or "/lens/"), borrowed from path */
    bool edges; /* flat, [n_heads, T, T] of every prompt at pattern_offset */
};

struct dump_data {
    struct h5_file file;
    char *path; /* owned */
    enum dump_kind kind;
    bool complete;
    size_t n_prompts, n_tokens, n_rows, n_sites;
    char **id, **text;                  /* [n_prompts] */
    int64_t *token_offset;              /* [n_prompts + 1]; NULL in lens files */
    int32_t *token;                     /* [n_tokens] ids; NULL in lens files */
    int64_t *pattern_offset;            /* [n_prompts + 1]; NULL where no site has edges */
    int32_t *row_prompt, *row_position; /* [n_rows]; prompts rise, positions of a prompt too */
    size_t *first_row;                  /* [n_prompts + 1] */
    struct dump_data_site *sites;       /* [n_sites] in the order of the forward pass */
};

int dump_data_open(struct dump_data *d, const char *path, struct err *err);
void dump_data_close(struct dump_data *d); /* safe on a zeroed struct */

#endif
