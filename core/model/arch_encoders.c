/* Rows of the architecture table: encoders. Without the masked-LM head's tensors a file is a model of hidden states. */
#include "core/model/arch.h"

#include <math.h>

#define ROLES_HEAD (ROLE_BIT(HEAD_DENSE) | ROLE_BIT(HEAD_NORM))
#define ROLES_POST_NORM                                                                                                \
    (ROLES_ATTENTION | ROLES_MLP | ROLE_BIT(EMBED_NORM) | ROLE_BIT(LN1) | ROLE_BIT(LN2) | ROLE_BIT(PROJECT_IN) |       \
     ROLES_HEAD)

#define BERT_EMBEDDINGS                                                                                                \
    [ROLE_EMBED] = "embeddings.word_embeddings", [ROLE_POSITIONS] = "embeddings.position_embeddings",                  \
    [ROLE_TYPES] = "embeddings.token_type_embeddings", [ROLE_EMBED_NORM] = "embeddings.LayerNorm"
#define BERT_BLOCK                                                                                                     \
    [ROLE_Q] = "encoder.layer.*.attention.self.query", [ROLE_K] = "encoder.layer.*.attention.self.key",                \
    [ROLE_V] = "encoder.layer.*.attention.self.value", [ROLE_O] = "encoder.layer.*.attention.output.dense",            \
    [ROLE_LN1] = "encoder.layer.*.attention.output.LayerNorm", [ROLE_UP] = "encoder.layer.*.intermediate.dense",       \
    [ROLE_DOWN] = "encoder.layer.*.output.dense", [ROLE_LN2] = "encoder.layer.*.output.LayerNorm"

static const char *const bert_names[N_ROLES] = {
    BERT_EMBEDDINGS,
    BERT_BLOCK,
    [ROLE_HEAD_DENSE] = "cls.predictions.transform.dense",
    [ROLE_HEAD_NORM] = "cls.predictions.transform.LayerNorm",
    [ROLE_UNEMBED] = "cls.predictions.decoder",
    [ROLE_UNEMBED_BIAS] = "cls.predictions.decoder.bias|cls.predictions.bias",
};
static const char *const roberta_names[N_ROLES] = {
    BERT_EMBEDDINGS,
    BERT_BLOCK,
    [ROLE_HEAD_DENSE] = "lm_head.dense",
    [ROLE_HEAD_NORM] = "lm_head.layer_norm",
    [ROLE_UNEMBED] = "lm_head.decoder",
    [ROLE_UNEMBED_BIAS] = "lm_head.decoder.bias|lm_head.bias",
};
static const char *const electra_names[N_ROLES] = {
    BERT_EMBEDDINGS,
    BERT_BLOCK,
    [ROLE_PROJECT_IN] = "embeddings_project",
    [ROLE_HEAD_DENSE] = "generator_predictions.dense",
    [ROLE_HEAD_NORM] = "generator_predictions.LayerNorm",
    [ROLE_UNEMBED] = "generator_lm_head",
    [ROLE_UNEMBED_BIAS] = "generator_lm_head.bias",
};
static const char *const deberta_names[N_ROLES] = {
    [ROLE_EMBED] = "embeddings.word_embeddings",
    [ROLE_TYPES] = "embeddings.token_type_embeddings",
    [ROLE_EMBED_NORM] = "embeddings.LayerNorm",
    [ROLE_RELATIVE] = "encoder.rel_embeddings",
    [ROLE_RELATIVE_NORM] = "encoder.LayerNorm",
    [ROLE_Q] = "encoder.layer.*.attention.self.query_proj",
    [ROLE_K] = "encoder.layer.*.attention.self.key_proj",
    [ROLE_V] = "encoder.layer.*.attention.self.value_proj",
    [ROLE_POSITION_Q] = "encoder.layer.*.attention.self.pos_query_proj",
    [ROLE_POSITION_K] = "encoder.layer.*.attention.self.pos_key_proj",
    [ROLE_O] = "encoder.layer.*.attention.output.dense",
    [ROLE_LN1] = "encoder.layer.*.attention.output.LayerNorm",
    [ROLE_UP] = "encoder.layer.*.intermediate.dense",
    [ROLE_DOWN] = "encoder.layer.*.output.dense",
    [ROLE_LN2] = "encoder.layer.*.output.LayerNorm",
    [ROLE_HEAD_DENSE] = "cls.predictions.transform.dense|lm_predictions.lm_head.dense",
    [ROLE_HEAD_NORM] = "cls.predictions.transform.LayerNorm|lm_predictions.lm_head.LayerNorm",
    [ROLE_UNEMBED] = "cls.predictions.decoder",
    [ROLE_UNEMBED_BIAS] = "cls.predictions.decoder.bias|cls.predictions.bias|lm_predictions.lm_head.bias",
};
static const char *const distilbert_names[N_ROLES] = {
    [ROLE_EMBED] = "embeddings.word_embeddings",
    [ROLE_POSITIONS] = "embeddings.position_embeddings",
    [ROLE_EMBED_NORM] = "embeddings.LayerNorm",
    [ROLE_Q] = "transformer.layer.*.attention.q_lin",
    [ROLE_K] = "transformer.layer.*.attention.k_lin",
    [ROLE_V] = "transformer.layer.*.attention.v_lin",
    [ROLE_O] = "transformer.layer.*.attention.out_lin",
    [ROLE_LN1] = "transformer.layer.*.sa_layer_norm",
    [ROLE_UP] = "transformer.layer.*.ffn.lin1",
    [ROLE_DOWN] = "transformer.layer.*.ffn.lin2",
    [ROLE_LN2] = "transformer.layer.*.output_layer_norm",
    [ROLE_HEAD_DENSE] = "vocab_transform",
    [ROLE_HEAD_NORM] = "vocab_layer_norm",
    [ROLE_UNEMBED] = "vocab_projector",
    [ROLE_UNEMBED_BIAS] = "vocab_projector.bias",
};
/* '*' is the layer's group. */
#define ALBERT_LAYER "encoder.albert_layer_groups.*.albert_layers.0."
static const char *const albert_names[N_ROLES] = {
    BERT_EMBEDDINGS,
    [ROLE_PROJECT_IN] = "encoder.embedding_hidden_mapping_in",
    [ROLE_Q] = ALBERT_LAYER "attention.query",
    [ROLE_K] = ALBERT_LAYER "attention.key",
    [ROLE_V] = ALBERT_LAYER "attention.value",
    [ROLE_O] = ALBERT_LAYER "attention.dense",
    [ROLE_LN1] = ALBERT_LAYER "attention.LayerNorm",
    [ROLE_UP] = ALBERT_LAYER "ffn",
    [ROLE_DOWN] = ALBERT_LAYER "ffn_output",
    [ROLE_LN2] = ALBERT_LAYER "full_layer_layer_norm",
    [ROLE_HEAD_DENSE] = "predictions.dense",
    [ROLE_HEAD_NORM] = "predictions.LayerNorm",
    [ROLE_UNEMBED] = "predictions.decoder",
    [ROLE_UNEMBED_BIAS] = "predictions.decoder.bias|predictions.bias",
};
static const char *const modernbert_names[N_ROLES] = {
    [ROLE_EMBED] = "embeddings.tok_embeddings",
    [ROLE_EMBED_NORM] = "embeddings.norm",
    [ROLE_LN1] = "layers.*.attn_norm",
    [ROLE_QKV] = "layers.*.attn.Wqkv",
    [ROLE_O] = "layers.*.attn.Wo",
    [ROLE_LN2] = "layers.*.mlp_norm",
    [ROLE_GATE_UP] = "layers.*.mlp.Wi",
    [ROLE_DOWN] = "layers.*.mlp.Wo",
    [ROLE_LN_FINAL] = "final_norm",
    [ROLE_HEAD_DENSE] = "head.dense",
    [ROLE_HEAD_NORM] = "head.norm",
    [ROLE_UNEMBED] = "decoder",
};

/* Numbers of rows, and heads for tasks that are not a vocabulary's: they have no part in hidden states or MLM. */
#define NOT_COMPUTED                                                                                                   \
    "embeddings.position_ids", "embeddings.token_type_ids", "pooler.dense.weight", "pooler.dense.bias",                \
        "classifier.weight", "classifier.bias", "qa_outputs.weight", "qa_outputs.bias"
static const char *const bert_ignored[] = { NOT_COMPUTED, "cls.seq_relationship.weight", "cls.seq_relationship.bias",
                                            NULL };
static const char *const roberta_ignored[] = { NOT_COMPUTED,
                                               "classifier.dense.weight",
                                               "classifier.dense.bias",
                                               "classifier.out_proj.weight",
                                               "classifier.out_proj.bias",
                                               NULL };
static const char *const electra_ignored[] = { NOT_COMPUTED,
                                               "discriminator_predictions.dense.weight",
                                               "discriminator_predictions.dense.bias",
                                               "discriminator_predictions.dense_prediction.weight",
                                               "discriminator_predictions.dense_prediction.bias",
                                               "classifier.dense.weight",
                                               "classifier.dense.bias",
                                               "classifier.out_proj.weight",
                                               "classifier.out_proj.bias",
                                               NULL };
/* mask_predictions: of ELECTRA's kind of training. */
static const char *const deberta_ignored[] = { NOT_COMPUTED,
                                               "mask_predictions.dense.weight",
                                               "mask_predictions.dense.bias",
                                               "mask_predictions.LayerNorm.weight",
                                               "mask_predictions.LayerNorm.bias",
                                               "mask_predictions.classifier.weight",
                                               "mask_predictions.classifier.bias",
                                               NULL };
static const char *const distilbert_ignored[] = { NOT_COMPUTED, "pre_classifier.weight", "pre_classifier.bias", NULL };
static const char *const albert_ignored[] = {
    NOT_COMPUTED, "pooler.weight", "pooler.bias", "sop_classifier.classifier.weight", "sop_classifier.classifier.bias",
    NULL
};
static const char *const modernbert_ignored[] = { "classifier.weight", "classifier.bias", NULL };

static const struct config_keys bert_keys = {
    TRANSFORMERS_SIZES,
    .norm_eps = "layer_norm_eps",
    .activation = "hidden_act",
};
static const struct config_keys distilbert_keys = {
    .n_layers = "n_layers|num_hidden_layers",
    .n_heads = "n_heads|num_attention_heads",
    .d_model = "dim|hidden_size",
    .d_mlp = "hidden_dim",
    .n_ctx = "max_position_embeddings",
    .activation = "activation",
};
static const struct config_keys modernbert_keys = {
    TRANSFORMERS_SIZES,
    .norm_eps = "norm_eps",
    .activation = "hidden_activation",
};

#define POST_NORM_ENCODER                                                                                              \
    .norm = NORM_LAYER, .block = BLOCK_POST, .bidirectional = true, .embed_norm = true, .head_transform = true
#define BERT_SHAPE POST_NORM_ENCODER, .position = POSITION_LEARNED, .biased = ROLES_POST_NORM, .keys = &bert_keys
#define BERT_DEFAULTS                                                                                                  \
    {                                                                                                                  \
        .activation = "gelu", .norm_eps = 1e-12, .n_ctx = 512, .tied = true                                            \
    }
#define BERT_PROPERTIES                                                                                                \
    { "type_vocab_size", PROPERTY_N_TYPES, 2 },                                                                        \
    {                                                                                                                  \
        "is_decoder", PROPERTY_MUST_BE_FALSE, 0                                                                        \
    }
/* Positions count from the row after padding's. */
#define ROBERTA                                                                                                        \
    BERT_SHAPE, .names = roberta_names, .prefix = "roberta.", .ignored = roberta_ignored, .head_activation = "gelu",   \
                .properties = { BERT_PROPERTIES, { "pad_token_id", PROPERTY_PAD_TOKEN, 1 } },                          \
                .defaults = BERT_DEFAULTS

const struct arch arch_encoders[] = {
    {
        .name = "bert",
        .gguf = "bert",
        BERT_SHAPE,
        .gguf_ln1 = "blk.*.attn_output_norm",
        .gguf_ln2 = "blk.*.layer_output_norm",
        .names = bert_names,
        .prefix = "bert.",
        .ignored = bert_ignored,
        .properties = { BERT_PROPERTIES },
        .defaults = BERT_DEFAULTS,
    },
    { .name = "roberta", ROBERTA },
    { .name = "xlm-roberta", ROBERTA },
    { .name = "camembert", ROBERTA },
    {
        .name = "deberta-v2",
        POST_NORM_ENCODER,
        .position = POSITION_RELATIVE,
        .names = deberta_names,
        .prefix = "deberta.",
        .ignored = deberta_ignored,
        .biased = ROLES_POST_NORM | ROLE_BIT(RELATIVE_NORM) | ROLE_BIT(POSITION_Q) | ROLE_BIT(POSITION_K),
        .keys = &bert_keys,
        .properties = { { "type_vocab_size", PROPERTY_N_TYPES, 0 },
                        { "relative_attention", PROPERTY_MUST_BE_TRUE, 0 },
                        { "position_biased_input", PROPERTY_MUST_BE_FALSE, 1 },
                        { "conv_kernel_size", PROPERTY_MUST_BE_ZERO, 0 },
                        { "embedding_size", PROPERTY_MUST_BE_D_MODEL, NAN },
                        { "attention_head_size", PROPERTY_MUST_BE_D_HEAD, NAN } },
        .defaults = { .activation = "gelu", .norm_eps = 1e-7, .n_ctx = 512, .tied = true },
    },
    {
        .name = "distilbert",
        POST_NORM_ENCODER,
        .position = POSITION_LEARNED,
        .names = distilbert_names,
        .prefix = "distilbert.",
        .ignored = distilbert_ignored,
        .biased = ROLES_POST_NORM,
        .keys = &distilbert_keys,
        .defaults = { .activation = "gelu", .norm_eps = 1e-12, .n_ctx = 512, .mlp_factor = 4, .tied = true },
    },
    {
        .name = "albert",
        BERT_SHAPE,
        .names = albert_names,
        .prefix = "albert.",
        .ignored = albert_ignored,
        .properties = { BERT_PROPERTIES,
                        { "embedding_size", PROPERTY_D_EMBED, 128 },
                        { "num_hidden_groups", PROPERTY_LAYER_GROUPS, 1 },
                        { "inner_group_num", PROPERTY_MUST_BE_ONE, 1 } },
        .defaults = { .activation = "gelu_new", .norm_eps = 1e-12, .n_ctx = 512, .tied = true },
    },
    {
        .name = "electra",
        BERT_SHAPE,
        .names = electra_names,
        .prefix = "electra.",
        .ignored = electra_ignored,
        .head_activation = "gelu",
        .properties = { BERT_PROPERTIES, { "embedding_size", PROPERTY_D_EMBED, 128 } },
        .defaults = BERT_DEFAULTS,
    },
    {
        .name = "modernbert",
        .gguf = "modern-bert",
        .norm = NORM_LAYER,
        .position = POSITION_ROTARY,
        .bidirectional = true,
        .embed_norm = true,
        .gated_mlp = true,
        .head_transform = true,
        .no_ln1_in_block_0 = true,
        .window = { .kind = WINDOW_PERIODIC,
                    .key = "local_attention",
                    .otherwise = 128,
                    .period_key = "global_attn_every_n_layers",
                    .period = 3,
                    .first_is_full = true,
                    .halved = true },
        .rope_theta_key = "global_rope_theta",
        .rope_theta = 160000,
        .local_theta_key = "local_rope_theta",
        .local_theta = 10000,
        .names = modernbert_names,
        .prefix = "model.",
        .ignored = modernbert_ignored,
        .bias_keys = { { "attention_bias", false, ROLE_BIT(QKV) | ROLE_BIT(O) },
                       { "mlp_bias", false, ROLE_BIT(GATE_UP) | ROLE_BIT(DOWN) },
                       { "norm_bias", false, ROLES_NORMS },
                       { "classifier_bias", false, ROLE_BIT(HEAD_DENSE) },
                       { "decoder_bias", true, ROLE_BIT(UNEMBED) } },
        .keys = &modernbert_keys,
        .head_activation = "gelu",
        .head_activation_key = "classifier_activation",
        .defaults = { .activation = "gelu", .norm_eps = 1e-5, .n_ctx = 8192, .tied = true },
    },
};

const size_t n_arch_encoders = sizeof arch_encoders / sizeof *arch_encoders;
