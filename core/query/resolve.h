/* Which field a name means. Inside of core/query. */
#ifndef STRATA_QUERY_RESOLVE_H
#define STRATA_QUERY_RESOLVE_H

#include "core/query/files.h"

/*
 * The field of a FIELD node and its file; *taken: 1 where the first index was the layer of a site. Files are asked in
 * their order (or only node->file); within one a name must be unambiguous. ERR_NOTFOUND, ERR_ARG with the place.
 */
int query_resolve(const struct query_files *q, const struct expression *e, const struct expression_node *node,
                  size_t *file, const struct query_field **field, size_t *taken, struct err *err);

#endif
