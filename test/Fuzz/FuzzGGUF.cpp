// Fuzzes the GGUF reader, the hyper-parameters it leads to, and the report of quern inspect.
#include "Generator.h"
#include "quern/Format/FileType.h"
#include "quern/Import/Inspect.h"
#include "quern/Import/ModelConfig.h"
#include "quern/Import/Parsers.h"
#include <set>

using namespace quern::import;
using quern::fuzz::Decisions;

namespace {

struct Bytes {
  std::string data;
  template <typename T> void put(T value) {
    data.append(reinterpret_cast<const char *>(&value), sizeof(T));
  }
  void string(const std::string &text) {
    put(uint64_t(text.size()));
    data += text;
  }
};

const char *const architectures[] = {"llama",  "qwen2", "qwen3", "qwen3moe",
                                     "gemma3", "phi3",  "bert"};
const char *const integerKeys[] = {"block_count",
                                   "embedding_length",
                                   "attention.head_count",
                                   "attention.head_count_kv",
                                   "attention.key_length",
                                   "attention.value_length",
                                   "context_length",
                                   "feed_forward_length",
                                   "expert_count",
                                   "expert_used_count",
                                   "expert_feed_forward_length",
                                   "vocab_size",
                                   "attention.sliding_window",
                                   "attention.sliding_window_pattern",
                                   "rope.dimension_count",
                                   "rope.scaling.original_context_length"};
const char *const floatKeys[] = {"attention.layer_norm_rms_epsilon",
                                 "rope.freq_base",
                                 "rope.freq_base_swa",
                                 "rope.scaling.factor",
                                 "rope.scale_linear",
                                 "rope.scaling.attn_factor",
                                 "rope.scaling.yarn_beta_fast",
                                 "rope.scaling.yarn_beta_slow",
                                 "attention.scale",
                                 "attn_logit_softcapping",
                                 "final_logit_softcapping"};
const char *const otherKeys[] = {"general.alignment",
                                 "general.name",
                                 "split.count",
                                 "split.no",
                                 "tokenizer.ggml.tokens",
                                 "tokenizer.ggml.merges",
                                 "tokenizer.chat_template",
                                 "x"};
const char *const scalings[] = {"none", "linear", "yarn", "longrope", "llama3", "spiral"};
const char *const tensorNames[] = {
    "token_embd.weight",   "output_norm.weight",       "output.weight",
    "blk.0.attn_q.weight", "blk.0.attn_q.bias",        "blk.0.ffn_up_exps.weight",
    "rope_freqs.weight",   "rope_factors_long.weight", "rope_factors_short.weight"};

void value(Decisions &d, Bytes &b, unsigned type, bool nested) {
  switch (type) {
  case 0:
  case 1:
    b.put(d.byte());
    break;
  case 2:
  case 3:
    b.put(uint16_t(d.count(300)));
    break;
  case 4:
  case 5:
    b.put(uint32_t(d.count(64)));
    break;
  case 6: {
    static const float edges[] = {0,     1, -1,  1e-5f, 1e30f, __builtin_inff(), __builtin_nanf(""),
                                  10000, 4, 0.5f};
    b.put(edges[d.below(10)]);
    break;
  }
  case 7:
    b.put(uint8_t(d.rarely(16) ? d.byte() : d.below(2)));
    break;
  case 8:
    b.string(d.rarely(8) ? d.text(20) : std::string(d.below(9), 'a'));
    break;
  case 9: {
    unsigned element = d.rarely(16) ? d.below(16) : d.below(9);
    uint64_t count = d.count(6);
    b.put(uint32_t(element));
    b.put(count);
    for (uint64_t i = 0; i < count && i < 8 && !nested && element != 9; ++i)
      value(d, b, element, true);
    break;
  }
  case 12:
    b.put(double(d.count(9)));
    break;
  default:
    b.put(d.count(40));
    break;
  }
}

std::string build(Decisions &d) {
  Bytes b;
  std::string architecture = d.pick(architectures), dot = architecture + ".";
  std::vector<std::string> keys;
  auto key = [&](const std::string &name, unsigned type, auto content) {
    Bytes k;
    k.string(name);
    k.put(uint32_t(type));
    if constexpr (std::is_same_v<decltype(content), std::string>)
      k.string(content);
    else
      k.put(content);
    keys.push_back(k.data);
  };
  if (!d.rarely(16))
    key("general.architecture", 8, architecture);
  // A whole set of hyper-parameters to begin with, most of the time.
  if (!d.rarely(8)) {
    uint32_t heads = 1 + d.below(4), dim = 2 * (1 + d.below(8));
    key(dot + "block_count", 4, uint32_t(1 + d.below(4)));
    key(dot + "embedding_length", 4, uint32_t(heads * dim));
    key(dot + "attention.head_count", 4, heads);
    key(dot + "context_length", 4, uint32_t(64));
    key(dot + "feed_forward_length", 4, uint32_t(32));
    key(dot + "vocab_size", 4, uint32_t(10));
    if (architecture == "qwen3moe") {
      key(dot + "expert_count", 4, uint32_t(4));
      key(dot + "expert_used_count", 4, uint32_t(d.below(6)));
      key(dot + "expert_feed_forward_length", 4, uint32_t(8));
    }
  }
  for (unsigned n = d.below(6); n > 0; --n) {
    unsigned kind = d.below(8);
    if (kind < 3)
      key(dot + d.pick(integerKeys), 4, uint32_t(d.count(64)));
    else if (kind < 5) {
      static const float edges[] = {
          1, 4, 10000, 0.5f, 1e-5f, 0, -1, __builtin_nanf(""), __builtin_inff(), 1e6f};
      key(dot + d.pick(floatKeys), 6, edges[d.below(10)]);
    } else if (kind == 5)
      key(dot + "rope.scaling.type", 8, std::string(d.pick(scalings)));
    else {
      Bytes k;
      k.string(kind == 6 ? std::string(d.pick(otherKeys)) : dot + d.pick(integerKeys));
      unsigned type = d.rarely(16) ? d.byte() : d.below(13);
      k.put(uint32_t(type));
      value(d, k, type, false);
      keys.push_back(k.data);
    }
  }
  std::vector<std::string> tensors;
  uint64_t offset = 0;
  std::set<std::string> used;
  for (unsigned n = d.below(5); n > 0; --n) {
    Bytes t;
    std::string name = d.rarely(12) ? d.text(12) : std::string(d.pick(tensorNames));
    t.string(used.insert(name).second || d.rarely(32) ? name : name + std::to_string(n));
    unsigned rank = d.rarely(16) ? d.byte() : 1 + d.below(3);
    llvm::ArrayRef<quern::format::FileType> types = quern::format::ggufTypes();
    const quern::format::FileType &type = types[d.below(types.size())];
    t.put(uint32_t(rank));
    uint64_t bytes = type.blockBytes;
    for (unsigned i = 0; i < rank && i < 8; ++i) {
      uint64_t extent = i == 0 && !d.rarely(8) ? type.blockElements * (1 + d.below(3)) : d.count(4);
      bytes *= i == 0 ? extent / type.blockElements : extent;
      t.put(extent);
    }
    t.put(uint32_t(d.rarely(16) ? d.byte() : type.id));
    t.put(d.rarely(8) ? d.count(200) : offset);
    offset = (offset + bytes + 31) / 32 * 32;
    tensors.push_back(t.data);
  }
  b.data = d.rarely(32) ? d.text(4) : "GGUF";
  b.put(uint32_t(d.rarely(24) ? d.byte() : 2 + d.below(2)));
  b.put(d.rarely(24) ? d.count(9) : uint64_t(tensors.size()));
  b.put(d.rarely(24) ? d.count(9) : uint64_t(keys.size()));
  for (const std::string &k : keys)
    b.data += k;
  for (const std::string &t : tensors)
    b.data += t;
  b.data.resize((b.data.size() + 31) / 32 * 32);
  b.data.resize(b.data.size() + std::min<uint64_t>(offset, 4096));
  quern::fuzz::spoil(d, b.data);
  return b.data;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static quern::fuzz::Tally tally("GGUF");
  // Real files may serve as corpus: they are taken as they are.
  std::string file(reinterpret_cast<const char *>(data), size);
  if (size < 4 || std::memcmp(data, "GGUF", 4) != 0) {
    Decisions d(data, size);
    file = build(d);
  }
  ++tally.runs;
  ModelFile model;
  model.path = "f";
  llvm::Error parsed = parseGGUF(file, file.size(), "f", 0, model);
  std::string message = llvm::toString(std::move(parsed));
  bool header = message.empty() || message.find("magic") == std::string::npos;
  for (const char *stage : {"version", "big-endian", "inside the counts", "the header declares"})
    header = header && message.find(stage) == std::string::npos;
  tally.header += header;
  if (!message.empty())
    return 0;
  ++tally.accepted;
  for (const TensorInfo &tensor : model.tensors)
    if (tensor.offset + tensor.size > file.size())
      __builtin_trap();
  std::string architecture = model.metadata.getString("general.architecture").value_or("").str();
  if (llvm::Error e = model.indexTensors(architecture))
    llvm::consumeError(std::move(e));
  if (auto config = readConfig(model); !config)
    llvm::consumeError(config.takeError());
  std::string report;
  llvm::raw_string_ostream os(report);
  os << llvm::json::Value(inspect(model));
  printInspection(model, true, os);
  return 0;
}
