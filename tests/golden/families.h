/*
 * The golden models, X(name, bound of the worst relative error in double): make_model_references.py's, then one or more
 * for every further family of decoders (make_decoder_references.py) and encoders (make_encoder_references.py).
 *
 * In double nothing but rounding is left, but that a GGUF has llama3's divisors rounded to float32, which turns angles
 * of up to 66 radians by 2^-24, and that transformers has 0.79788456 for sqrt(2 / pi) in BLOOM's activation.
 */
#ifndef STRATA_TESTS_GOLDEN_FAMILIES_H
#define STRATA_TESTS_GOLDEN_FAMILIES_H

#define GOLDEN_BOUND 1e-12
#define GOLDEN_MODELS_OF_FORMATS(X)                                                                                    \
    X("llama_a", GOLDEN_BOUND)                                                                                         \
    X("llama_a_gguf", 66 * 0x1p-24)                                                                                    \
    X("llama_b", GOLDEN_BOUND)                                                                                         \
    X("llama_mixed_gguf", GOLDEN_BOUND)                                                                                \
    X("mistral", GOLDEN_BOUND)                                                                                         \
    X("gpt2", GOLDEN_BOUND)                                                                                            \
    X("gpt2_bare", GOLDEN_BOUND)                                                                                       \
    X("gpt2_gguf", GOLDEN_BOUND)                                                                                       \
    X("gpt2_mixed_gguf", GOLDEN_BOUND)                                                                                 \
    X("qwen2", GOLDEN_BOUND)                                                                                           \
    X("qwen2_gguf", GOLDEN_BOUND)
#define GOLDEN_FAMILIES(X)                                                                                             \
    X("llama_yarn", GOLDEN_BOUND)                                                                                      \
    X("mixtral", GOLDEN_BOUND)                                                                                         \
    X("gpt_bigcode", GOLDEN_BOUND)                                                                                     \
    X("gpt_bigcode_heads", GOLDEN_BOUND)                                                                               \
    X("gpt2_scaled", GOLDEN_BOUND)                                                                                     \
    X("gpt_neo", GOLDEN_BOUND)                                                                                         \
    X("gptj", GOLDEN_BOUND)                                                                                            \
    X("gpt_neox", GOLDEN_BOUND)                                                                                        \
    X("gpt_neox_sequential", GOLDEN_BOUND)                                                                             \
    X("opt", GOLDEN_BOUND)                                                                                             \
    X("opt_post", GOLDEN_BOUND)                                                                                        \
    X("bloom", 1e-9)                                                                                                   \
    X("qwen2_moe", GOLDEN_BOUND)                                                                                       \
    X("qwen3", GOLDEN_BOUND)                                                                                           \
    X("qwen3_moe", GOLDEN_BOUND)                                                                                       \
    X("gemma", GOLDEN_BOUND)                                                                                           \
    X("gemma2", GOLDEN_BOUND)                                                                                          \
    X("gemma3_text", GOLDEN_BOUND)                                                                                     \
    X("phi", GOLDEN_BOUND)                                                                                             \
    X("phi_norms", GOLDEN_BOUND)                                                                                       \
    X("phi3", GOLDEN_BOUND)                                                                                            \
    X("phi3_long", GOLDEN_BOUND)                                                                                       \
    X("olmo", GOLDEN_BOUND)                                                                                            \
    X("olmo2", GOLDEN_BOUND)                                                                                           \
    X("stablelm", GOLDEN_BOUND)                                                                                        \
    X("stablelm_parallel", GOLDEN_BOUND)                                                                               \
    X("falcon", GOLDEN_BOUND)                                                                                          \
    X("falcon_grouped", GOLDEN_BOUND)                                                                                  \
    X("falcon_alibi", GOLDEN_BOUND)                                                                                    \
    X("mpt", GOLDEN_BOUND)                                                                                             \
    X("starcoder2", GOLDEN_BOUND)                                                                                      \
    X("cohere", GOLDEN_BOUND)                                                                                          \
    X("cohere2", GOLDEN_BOUND)                                                                                         \
    X("granite", GOLDEN_BOUND)                                                                                         \
    X("smollm3", GOLDEN_BOUND)
/* The same with config.json and tensors as files on the hub spell them. */
#define GOLDEN_HUB(X)                                                                                                  \
    X("bloom_hub", 1e-9)                                                                                               \
    X("falcon_hub", GOLDEN_BOUND)                                                                                      \
    X("gemma_hub", GOLDEN_BOUND)                                                                                       \
    X("gemma2_hub", GOLDEN_BOUND)                                                                                      \
    X("gemma3_text_hub", GOLDEN_BOUND)                                                                                 \
    X("cohere2_hub", GOLDEN_BOUND)                                                                                     \
    X("gpt_neo_hub", GOLDEN_BOUND)                                                                                     \
    X("gpt_neox_hub", GOLDEN_BOUND)                                                                                    \
    X("gptj_hub", GOLDEN_BOUND)                                                                                        \
    X("llama_yarn_hub", GOLDEN_BOUND)                                                                                  \
    X("opt_post_hub", GOLDEN_BOUND)                                                                                    \
    X("phi_hub", GOLDEN_BOUND)                                                                                         \
    X("phi3_long_hub", GOLDEN_BOUND)                                                                                   \
    X("qwen3_moe_hub", GOLDEN_BOUND)                                                                                   \
    X("smollm3_hub", GOLDEN_BOUND)                                                                                     \
    X("stablelm_hub", GOLDEN_BOUND)
#define GOLDEN_ENCODERS(X)                                                                                             \
    X("bert", GOLDEN_BOUND)                                                                                            \
    X("bert_old", GOLDEN_BOUND)                                                                                        \
    X("roberta", GOLDEN_BOUND)                                                                                         \
    X("xlm_roberta", GOLDEN_BOUND)                                                                                     \
    X("distilbert", GOLDEN_BOUND)                                                                                      \
    X("albert", GOLDEN_BOUND)                                                                                          \
    X("electra", GOLDEN_BOUND)                                                                                         \
    X("modernbert", GOLDEN_BOUND)                                                                                      \
    X("deberta_v2", GOLDEN_BOUND)                                                                                      \
    X("deberta_v2_b", GOLDEN_BOUND)
/*
 * Of the others as llama.cpp's converter writes them (make_gguf_models.py). Its numbers are float32: eps of norms, at
 * most 1e-5 beside variances of about 1, matter little; factors and clips are off by up to 2^-25 of themselves.
 */
#define EPS_BOUND 1e-11
#define METADATA_BOUND (4 * 0x1p-24)
#define GOLDEN_GGUF(X)                                                                                                 \
    X("mistral_gguf", EPS_BOUND)                                                                                       \
    X("mixtral_gguf", EPS_BOUND)                                                                                       \
    X("llama_yarn_gguf", EPS_BOUND)                                                                                    \
    X("qwen3_gguf", EPS_BOUND)                                                                                         \
    X("gemma_gguf", EPS_BOUND)                                                                                         \
    X("phi3_gguf", EPS_BOUND)                                                                                          \
    X("phi3_long_gguf", METADATA_BOUND)                                                                                \
    X("gpt_neox_gguf", EPS_BOUND)                                                                                      \
    X("bloom_gguf", 1e-9)                                                                                              \
    X("falcon_gguf", EPS_BOUND)                                                                                        \
    X("falcon_grouped_gguf", EPS_BOUND)                                                                                \
    X("phi_gguf", EPS_BOUND)                                                                                           \
    X("starcoder2_gguf", EPS_BOUND)                                                                                    \
    X("gpt_bigcode_gguf", EPS_BOUND)                                                                                   \
    X("olmo2_gguf", EPS_BOUND)                                                                                         \
    X("olmo_gguf", EPS_BOUND)                                                                                          \
    X("cohere_gguf", EPS_BOUND)                                                                                        \
    X("granite_gguf", METADATA_BOUND)                                                                                  \
    X("stablelm_gguf", EPS_BOUND)                                                                                      \
    X("stablelm_parallel_gguf", EPS_BOUND)                                                                             \
    X("mpt_gguf", METADATA_BOUND)                                                                                      \
    X("qwen2_moe_gguf", EPS_BOUND)                                                                                     \
    X("qwen3_moe_gguf", EPS_BOUND)                                                                                     \
    X("gemma2_gguf", EPS_BOUND)                                                                                        \
    X("gemma3_text_gguf", EPS_BOUND)                                                                                   \
    X("cohere2_gguf", EPS_BOUND)                                                                                       \
    X("phi3_q8_gguf", EPS_BOUND)                                                                                       \
    X("qwen3_moe_q8_gguf", EPS_BOUND)                                                                                  \
    X("mixtral_q8_gguf", EPS_BOUND)                                                                                    \
    X("smollm3_gguf", EPS_BOUND)
#define GOLDEN_HEADLESS(X)                                                                                             \
    X("bert_gguf", EPS_BOUND)                                                                                          \
    X("xlm_roberta_gguf", EPS_BOUND)                                                                                   \
    X("distilbert_gguf", EPS_BOUND)                                                                                    \
    X("modernbert_gguf", EPS_BOUND)
#define GOLDEN_WITH_HEAD(X)                                                                                            \
    GOLDEN_MODELS_OF_FORMATS(X) GOLDEN_FAMILIES(X) GOLDEN_HUB(X) GOLDEN_ENCODERS(X) GOLDEN_GGUF(X)
#define GOLDEN_ALL(X) GOLDEN_WITH_HEAD(X) GOLDEN_HEADLESS(X)

#endif
