/* index.h5 of a folder of shards: virtual datasets, which readers see as one array. */
#include "core/store/dump_internal.h"

static uint64_t items_of(const struct dump_site *site, const struct dump_counts *counts)
{
    return site_row(site->ref.site)->axes == AXES_EDGES ? counts->edges : counts->rows;
}

static bool map_shard(hid_t create, hid_t space, const hsize_t *dims, int rank, hsize_t first, const char *file,
                      const char *path)
{
    hsize_t start[H5_MAX_RANK] = { first };
    hid_t source = H5Screate_simple(rank, dims, NULL);
    bool ok = source >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, dims, NULL) >= 0 &&
              H5Pset_virtual(create, space, file, path, source) >= 0;
    H5Sclose(source);
    return ok;
}

/* Files are named without a folder: HDF5 looks beside the index first. */
static bool map_shards(const struct dump_writer *w, const struct dump_site *site, hid_t create, hid_t space,
                       const char *path)
{
    hsize_t dims[H5_MAX_RANK] = { 0, site->dims[0], site->dims[1] }, first = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < w->n_shards; i++) {
        dims[0] = items_of(site, &w->shards[i].counts);
        ok = map_shard(create, space, dims, 1 + site->n_dims, first, w->shards[i].name, path);
        first += dims[0];
    }
    return ok && H5Sselect_all(space) >= 0;
}

static int create_site(const struct dump_writer *w, const struct h5_file *f, const struct dump_site *site,
                       struct err *err)
{
    char path[SITE_NAME_MAX + 16];
    dump_site_path(site, path);
    hsize_t dims[H5_MAX_RANK] = { items_of(site, &w->counts), site->dims[0], site->dims[1] };
    hid_t type = h5_make_type(w->plan.provenance->dtype, true), space = H5Screate_simple(1 + site->n_dims, dims, NULL);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), links = H5Pcreate(H5P_LINK_CREATE), dataset = -1;
    if (type >= 0 && space >= 0 && create >= 0 && links >= 0 && H5Pset_obj_track_times(create, 0) >= 0 &&
        H5Pset_create_intermediate_group(links, 1) >= 0 && map_shards(w, site, create, space, path))
        dataset = H5Dcreate2(f->id, path, type, space, links, create, H5P_DEFAULT);
    int rc = h5_end_dataset(f, dataset, path, dataset < 0 ? h5_fail(f, err, "create '%s'", path) : 0, err);
    H5Pclose(links);
    H5Pclose(create);
    H5Sclose(space);
    H5Tclose(type);
    H5Eclear2(H5E_DEFAULT);
    return rc;
}

int dump_index_create(const struct dump_writer *w, const struct h5_file *f, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < w->n_sites; i++)
        rc = create_site(w, f, &w->sites[i], err);
    return rc;
}
