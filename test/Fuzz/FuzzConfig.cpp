// Fuzzes the JSON reader and the hyper-parameters read from config.json.
#include "Generator.h"
#include "quern/Import/ModelConfig.h"
#include "quern/Import/Parsers.h"
#include "quern/Support/Json.h"
#include <set>

using namespace quern::import;
using quern::fuzz::Decisions;

namespace {

const char *const types[] = {"llama",       "mistral", "qwen2", "qwen3", "qwen3_moe",
                             "gemma3_text", "gemma3",  "phi3",  "bert"};
const char *const keys[] = {"num_key_value_heads",
                            "head_dim",
                            "rms_norm_eps",
                            "hidden_act",
                            "hidden_activation",
                            "mlp_bias",
                            "attention_bias",
                            "query_pre_attn_scalar",
                            "final_logit_softcapping",
                            "attn_logit_softcapping",
                            "use_bidirectional_attention",
                            "sliding_window",
                            "use_sliding_window",
                            "sliding_window_pattern",
                            "_sliding_window_pattern",
                            "layer_types",
                            "max_window_layers",
                            "tie_word_embeddings",
                            "rope_theta",
                            "rope_local_base_freq",
                            "partial_rotary_factor",
                            "original_max_position_embeddings",
                            "num_experts",
                            "num_local_experts",
                            "num_experts_per_tok",
                            "moe_intermediate_size",
                            "norm_topk_prob",
                            "decoder_sparse_step",
                            "mlp_only_layers",
                            "_name_or_path",
                            "quantization_config",
                            "num_hidden_layers",
                            "hidden_size",
                            "num_attention_heads",
                            "vocab_size"};
const char *const ropeTypes[] = {"default", "linear",   "dynamic", "llama3",
                                 "yarn",    "longrope", "su",      "spiral"};
const char *const ropeKeys[] = {"factor",           "low_freq_factor",
                                "high_freq_factor", "beta_fast",
                                "beta_slow",        "attention_factor",
                                "mscale",           "mscale_all_dim",
                                "truncate",         "original_max_position_embeddings",
                                "rope_theta",       "partial_rotary_factor"};

std::string value(Decisions &d) {
  static const char *const literals[] = {"1",
                                         "2",
                                         "4",
                                         "8",
                                         "0.5",
                                         "1e-6",
                                         "true",
                                         "false",
                                         "null",
                                         "10000.0",
                                         "\"silu\"",
                                         "\"gelu\"",
                                         "\"gelu_pytorch_tanh\"",
                                         "0",
                                         "-1",
                                         "1e30",
                                         "1e999",
                                         "9223372036854775807",
                                         "[]",
                                         "{}",
                                         "[1,2]",
                                         "[\"full_attention\",\"sliding_attention\"]",
                                         "[\"sliding_attention\",\"full_attention\"]",
                                         "[\"sliding_attention\",\"sliding_attention\"]",
                                         "{\"quant_method\":\"gptq\"}",
                                         "\"\\ud800\""};
  return d.rarely(6) ? std::to_string(d.count(64)) : std::string(d.pick(literals));
}

std::string rope(Decisions &d) {
  std::string text =
      std::string("{\"") + (d.below(2) ? "rope_type" : "type") + "\":\"" + d.pick(ropeTypes) + "\"";
  if (!d.rarely(6))
    text += ",\"factor\":" + std::to_string(d.below(9));
  if (d.below(2))
    text += ",\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":" +
            std::to_string(8 << d.below(4));
  if (d.below(2)) {
    std::string list;
    for (unsigned n = d.below(9); n > 0; --n)
      list += (list.empty() ? "" : ",") + (d.rarely(16) ? value(d) : "1.5");
    text += ",\"short_factor\":[" + list + "],\"long_factor\":[" + list + "]";
  }
  for (unsigned n = d.below(3); n > 0; --n)
    text += std::string(",\"") + d.pick(ropeKeys) + "\":" + value(d);
  return text + "}";
}

std::string build(Decisions &d) {
  std::string text = std::string("{\"model_type\":\"") + d.pick(types) + "\"", rest;
  unsigned heads = 1 + d.below(4);
  rest += ",\"hidden_size\":" + std::to_string(heads * 2 * (1 + d.below(8))) +
          ",\"num_attention_heads\":" + std::to_string(heads);
  rest += ",\"num_hidden_layers\":2,\"intermediate_size\":16,\"vocab_size\":10,\"max_position_"
          "embeddings\":64";
  std::set<std::string> used; // a repeated key would end it all in the JSON reader
  for (unsigned n = d.below(8); n > 0; --n)
    if (std::string key = d.pick(keys); used.insert(key).second || d.rarely(32))
      rest += ",\"" + key + (rest.find("\"" + key + "\"") == std::string::npos ? "" : "x") +
              "\":" + value(d);
  if (d.below(3) == 0 && rest.find("expert") == std::string::npos &&
      rest.find("moe_") == std::string::npos)
    rest += ",\"num_experts\":4,\"num_experts_per_tok\":2,\"moe_intermediate_size\":8";
  switch (d.below(5)) {
  case 1:
    rest += ",\"rope_scaling\":" + rope(d);
    break;
  case 2:
    rest += ",\"rope_parameters\":" + rope(d);
    break;
  case 3:
    rest += ",\"rope_parameters\":{\"full_attention\":" + rope(d) +
            ",\"sliding_attention\":" + rope(d) + "}";
    break;
  }
  if (d.rarely(4))
    text += ",\"text_config\":{" + rest.substr(1) + "}";
  else
    text += rest;
  text += "}";
  quern::fuzz::spoil(d, text);
  return text;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static quern::fuzz::Tally tally("config.json");
  std::string text(reinterpret_cast<const char *>(data), size);
  Decisions d(data, size);
  bool written = size > 0 && (data[0] == '{' || data[0] == '['); // real text is taken as it is
  if (!written)
    text = build(d);
  ++tally.runs;
  llvm::Expected<llvm::json::Value> value = quern::parseJson(text, "f");
  if (!value) {
    llvm::consumeError(value.takeError());
    return 0;
  }
  ++tally.header;
  const llvm::json::Object *object = value->getAsObject();
  if (!object)
    return 0;
  ModelFile model;
  model.container = Container::HuggingFace;
  model.path = "f";
  if (llvm::Error e = refuseQuantized(*object, "f"))
    llvm::consumeError(std::move(e));
  if (!written && d.below(2)) {
    TensorInfo embedding;
    embedding.name = "model.embed_tokens.weight";
    embedding.shape = {int64_t(d.below(12)), int64_t(d.below(64))};
    model.tensors.push_back(embedding);
    if (llvm::Error e = model.indexTensors(architectureOf(*object)))
      llvm::consumeError(std::move(e));
  }
  model.metadata["config"] = std::move(*value);
  llvm::Expected<ModelConfig> config = readConfig(model);
  if (!config) {
    llvm::consumeError(config.takeError());
    return 0;
  }
  ++tally.accepted;
  // What consumers rely on.
  if (config->heads % config->kvHeads != 0 || config->rope.dims > config->headDim ||
      config->rope.frequencies.size() != size_t(config->rope.dims / 2) || config->vocab <= 0)
    __builtin_trap();
  return 0;
}
