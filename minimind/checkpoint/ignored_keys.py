"""The configuration keys without influence on what a model computes."""

from __future__ import annotations

BOOKKEEPING = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "attn_implementation",
        "auto_map",
        "dtype",
        "finetuning_task",
        "id2label",
        "is_decoder",
        "label2id",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "return_dict",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_bfloat16",
        "use_cache",
    }
)

TRAINING = frozenset(
    {
        "attention_dropout",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "initializer_range",
        "multiple_of",
        "pruned_heads",
        "tf_legacy_loss",
        "tie_encoder_decoder",
    }
)

# A window counts only where `use_sliding_window` turns it on, which is refused.
WINDOW = frozenset({"max_window_layers", "sliding_window"})

# transformers 4 writes a model's generation settings into its config.json too.
GENERATION = frozenset(
    {
        "bad_words_ids",
        "begin_suppress_tokens",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
    }
)

IGNORED = BOOKKEEPING | TRAINING | WINDOW | GENERATION
