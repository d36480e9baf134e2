/*
 * safetensors (huggingface/safetensors, README.md and safetensors/src/tensor.rs):
 * u64 LE header length, JSON header, data. All checks of the reference reader
 * are made: see safetensors.c.
 *
 *     struct tensor_set set;
 *     tensor_set_init(&set);
 *     int rc = safetensors_add(&set, &map, &err);        // one file; takes over map
 *     rc = safetensors_add_index(&set, &index, open_file, ctx, &err);  // or all shards
 *     tensor_set_release(&set);
 */
#ifndef STRATA_FORMATS_SAFETENSORS_H
#define STRATA_FORMATS_SAFETENSORS_H

#include "core/formats/tensor.h"

/* Adds all tensors of one file to the set, which takes over *map also on failure. */
int safetensors_add(struct tensor_set *set, struct file_map *map, struct err *err);

/*
 * Adds the shards of an index (model.safetensors.index.json, already mapped as
 * `index`, not taken over). Shard names must be plain file names; each is opened
 * by open_file(ctx, name, &map, err). Every tensor in weight_map must exist in
 * the shard that it names.
 */
typedef int file_opener(void *ctx, const char *name, struct file_map *map, struct err *err);
int safetensors_add_index(struct tensor_set *set, const struct file_map *index, file_opener *open_file, void *ctx,
                          struct err *err);

#endif
