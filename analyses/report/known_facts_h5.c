#include "analyses/report/known_facts_h5.h"

#include "core/base/mem.h"

#include <stdlib.h>

int known_facts_put_counts(const struct known_facts *k, const struct h5_file *f, struct err *err)
{
    const struct h5_setting settings[] = { { "facts_given", NULL, (int64_t)k->n_given },
                                           { "facts_known", NULL, (int64_t)k->n_known },
                                           { "facts_unknown", NULL, (int64_t)k->n_unknown },
                                           { "facts_without_answer", NULL, (int64_t)k->n_without_answer },
                                           { "facts_measured", NULL, (int64_t)k->n },
                                           { "own_answer", NULL, k->own_answer } };
    return h5_put_settings(f, settings, sizeof settings / sizeof *settings, err);
}

int known_facts_put(const struct known_facts *k, const struct h5_file *f, struct err *err)
{
    static const char *const names[] = { "/facts/id", "/facts/prompt", "/facts/subject", "/facts/answer",
                                         "/facts/relation" };
    const hsize_t n[] = { k->n };
    const char **texts = mem_array(k->n, sizeof *texts);
    int rc = texts ? 0 : err_nomem(err, "the facts");
    for (size_t t = 0; !rc && t < sizeof names / sizeof *names; t++) {
        for (size_t i = 0; i < k->n; i++) {
            const struct prepared *p = k->facts[i];
            const char *const of[] = { p->id, p->text, p->subject, p->answer, p->relation };
            texts[i] = of[t];
        }
        rc = h5_put_array(f, names[t], STORE_TEXT, 1, n, texts, err);
    }
    free(texts);
    rc = rc ? rc : h5_put_array(f, "/facts/answer_token", STORE_I32, 1, n, k->answers, err);
    rc = rc ? rc : h5_put_array(f, "/facts/rank", STORE_I32, 1, n, k->rank, err);
    return rc ? rc : h5_put_array(f, "/facts/prob", STORE_F64, 1, n, k->prob, err);
}
