/*
 * What a query can ask of Strata's HDF5 files: their fields and how units of
 * several files go together. Numbers and texts of the fields stay in the files
 * (columns.h reads them).
 *
 *     struct query_files q;
 *     if (query_files_open(&q, paths, n, expressions, n_expressions, &err)) ...
 *     for (uint64_t u = 0; u < query_files_units(&q); u++)
 *         if (query_files_find(&q, u, places)) ...          // where the unit is in each file
 *     query_files_close(&q);
 *
 * A unit is a row (/rows) of the first file, or where it has none a prompt
 * (/prompts) or fact (/facts). A field is a dataset whose first dimension counts
 * these, or tokens or attention edges of each prompt; its name is its path with
 * dots, and any tail of that which only one field has. Later files are joined by
 * id and text, and by position where they have several rows a prompt.
 *
 * Untrusted: what serves as an index is checked, and a child process reads every
 * field that the expressions name first (h5_guard.h). Of partial files the whole
 * prompts. In memory: ids of the later files, and 8 bytes a row.
 */
#ifndef STRATA_QUERY_FILES_H
#define STRATA_QUERY_FILES_H

#include "core/query/expression.h"
#include "core/store/h5.h"

enum { QUERY_MOST_FILES = 64 };

enum query_layout {
    QUERY_ROWS,    /* [rows, ...] */
    QUERY_PROMPTS, /* [prompts, ...] */
    QUERY_TOKENS,  /* [all tokens, ...]; those of a prompt from token_offset on */
    QUERY_EDGES,   /* flat; those of a prompt are [heads, tokens, tokens] from pattern_offset on */
    QUERY_OTHER,   /* not of single rows or prompts: no field */
};

struct query_field {
    char *path;       /* "/lens/rank", owned */
    char *name;       /* "lens.rank", owned */
    const char *leaf; /* what follows the group: "rank", "blocks.7.hook_resid_post" */
    const char *site; /* "hook_resid_post" of a site of a block, else NULL */
    size_t layer;     /* of that block */
    enum query_layout layout;
    enum store_type type;
    int n_axes;               /* of one unit: [7, 5] has 2; EDGES: heads, keys; TOKENS: tokens first */
    size_t axes[H5_MAX_RANK]; /* 0: as many as the prompt has tokens */
    int64_t *members;         /* [axes[0]] which heads are stored; NULL: all. Owned */
    char **labels;            /* [axes[0]] names of the first axis, "0_pre"; NULL: none. Borrowed */
};

struct query_file {
    struct h5_file h5;
    char *path, *stem; /* owned; stem: "lens" of a/lens.h5 */
    const char *group; /* "prompts" or "facts" */
    bool complete, is_lens, has_rows, several_rows;
    size_t n_prompts, n_rows, most_tokens, n_edge_heads;
    int64_t *token_offset, *pattern_offset; /* [n_prompts + 1]; NULL: none */
    int32_t *subject_begin, *subject_end;   /* [n_prompts] tokens; NULL: none */
    int32_t *row_prompt, *row_position;     /* [n_rows]; NULL where it has no rows */
    size_t *first_row;                      /* [n_prompts + 1]; NULL likewise */
    struct query_field *fields;
    size_t n_fields, fields_capacity;
    char **layer_labels, **key_labels;
    size_t n_layer_labels, n_key_labels;
    uint32_t *partner; /* [prompts of the first file] UINT32_MAX: not here; NULL in the first file */
};

struct query_files {
    struct query_file *files;
    size_t n;
};

struct query_place {
    size_t prompt, row; /* row: 0 where the file has none */
};

/* expressions[n_expressions]: whose fields the child tries; 0 of them: to list fields only. Paths are copied. */
int query_files_open(struct query_files *out, const char *const *paths, size_t n, const struct expression *expressions,
                     size_t n_expressions, struct err *err);
void query_files_close(struct query_files *q); /* safe on a zeroed struct */
uint64_t query_files_units(const struct query_files *q);
/* places[q->n]; false where a file lacks the unit. */
bool query_files_find(const struct query_files *q, uint64_t unit, struct query_place *places);

/* Whether a name in an expression could mean this field. */
bool query_field_is_named(const struct query_field *field, const char *name);
/* Whether the name is that of a site of every layer, so that its first index is the layer: resid_post, attn.hook_z. */
bool query_field_is_of_layers(const struct query_field *field, const char *name);

#endif
