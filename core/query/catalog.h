/* How files.c sees one file: its rows, prompts and fields. Inside of core/query. */
#ifndef STRATA_QUERY_CATALOG_H
#define STRATA_QUERY_CATALOG_H

#include "core/query/files.h"

/* Opens path and lists its fields; file->path is set already. The caller closes it, also after a failure. */
int query_catalog_read(struct query_file *file, struct err *err);
void query_catalog_close(struct query_file *file);

#endif
