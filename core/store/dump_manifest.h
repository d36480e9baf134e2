/*
 * manifest.json of a folder of shards: what is whole, for people and scripts
 * that do not read HDF5. Rewritten (as a whole, by rename) after each shard.
 *
 *     dump_manifest_write("OUT/manifest.json", &plan, &counts, shards, n_shards, complete, &err);
 *
 *     { "format": "strata-dump-folder", "version": 1, "strata_version": ..., "command": ..., "model_path": ...,
 *       "model_sha256": ..., "dtype": "f32", "positions": "all", "sites": ["blocks.0.hook_resid_post", ...],
 *       "complete": true, "prompts": N, "tokens": T, "rows": R, "index": "index.h5" (null until complete),
 *       "shards": [ { "file": "shard-00000.h5", "first_prompt": 0, "prompts": n, "tokens": t, "rows": r,
 *                     "bytes": size of the file }, ... ] }
 */
#ifndef STRATA_STORE_DUMP_MANIFEST_H
#define STRATA_STORE_DUMP_MANIFEST_H

#include "core/store/dump_file.h"

/* counts: of the whole run; shards: those that are finished. */
int dump_manifest_write(const char *path, const struct dump_plan *plan, const struct dump_counts *counts,
                        const struct dump_shard *shards, size_t n_shards, bool complete, struct err *err);

#endif
