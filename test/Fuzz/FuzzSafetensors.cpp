// Fuzzes the safetensors reader and the naming of tensors (expert stacks included).
#include "Generator.h"
#include "quern/Import/Inspect.h"
#include "quern/Import/Parsers.h"
#include "quern/Import/TensorTypes.h"
#include <set>

using namespace quern::import;
using quern::fuzz::Decisions;

namespace {

const char *const names[] = {"model.embed_tokens.weight",
                             "lm_head.weight",
                             "model.layers.0.self_attn.q_proj.weight",
                             "model.layers.1.post_attention_layernorm.weight",
                             "model.layers.0.mlp.experts.0.up_proj.weight",
                             "model.layers.0.mlp.experts.1.up_proj.weight",
                             "model.layers.0.mlp.experts.2.up_proj.weight",
                             "model.layers.0.mlp.experts.gate_up_proj",
                             "model.layers.0.mlp.experts.down_proj",
                             "model.language_model.layers.0.mlp.experts.1.down_proj.weight",
                             "language_model.model.norm.weight",
                             "language_model.lm_head.weight",
                             "model.layers.00.mlp.gate.weight",
                             "token_embd.weight",
                             "a"};
const char *const architectures[] = {"llama", "gemma3", "phi3", "qwen3moe", ""};
const char *const junk[] = {"null", "true",  "[]",           "{}",    "-1",
                            "1.5",  "\"x\"", "[[[[[[]]]]]]", "1e999", "18446744073709551615"};

std::string tensor(Decisions &d, uint64_t &offset) {
  llvm::ArrayRef<ArrayType> types = arrayTypes();
  const ArrayType &type = types[d.below(types.size())];
  uint64_t elements = 1;
  std::string shape;
  for (unsigned n = d.below(4); n > 0; --n) {
    uint64_t extent = d.rarely(32) ? d.count(5) : d.below(5);
    elements *= extent;
    shape += (shape.empty() ? "" : ",") + std::to_string(extent);
  }
  uint64_t begin = d.rarely(24) ? d.count(64) : offset,
           end = d.rarely(24) ? d.count(64) : begin + elements * type.bytes;
  offset = end;
  auto maybe = [&](std::string good) { return d.rarely(32) ? std::string(d.pick(junk)) : good; };
  std::string text = "{\"dtype\":" + maybe("\"" + (d.rarely(32) ? "F99" : type.name.str()) + "\"") +
                     ",\"shape\":" + maybe("[" + shape + "]");
  if (!d.rarely(32))
    text +=
        ",\"data_offsets\":" + maybe("[" + std::to_string(begin) + "," + std::to_string(end) + "]");
  return text + "}";
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static quern::fuzz::Tally tally("safetensors");
  std::string file, architecture;
  if (size > 9 && data[8] == '{') { // a real file
    file.assign(reinterpret_cast<const char *>(data), size);
  } else {
    Decisions d(data, size);
    architecture = d.pick(architectures);
    uint64_t offset = 0;
    std::set<std::string> used;
    std::string header = "{";
    if (d.below(2))
      header +=
          "\"__metadata__\":" + std::string(d.rarely(8) ? d.pick(junk) : "{\"format\":\"pt\"}");
    for (unsigned n = d.below(6); n > 0; --n) {
      std::string name = d.rarely(24) ? "\\u00" + d.text(3) : std::string(d.pick(names));
      if (!used.insert(name).second && !d.rarely(32))
        name += std::to_string(n);
      header += (header.size() > 1 ? ",\"" : "\"") + name + "\":" + tensor(d, offset);
    }
    header += "}";
    quern::fuzz::spoil(d, header);
    uint64_t length = d.rarely(32) ? d.count(255) : header.size();
    file.assign(reinterpret_cast<const char *>(&length), 8);
    file += header;
    uint64_t bytes = d.rarely(16) ? d.count(64) : offset;
    file.resize(file.size() + std::min<uint64_t>(bytes, 4096));
  }
  ++tally.runs;
  ModelFile model;
  model.container = Container::HuggingFace;
  model.path = "f";
  std::string message = llvm::toString(parseSafetensors(file, file.size(), "f", 0, model));
  tally.header +=
      message.find("header") == std::string::npos && message.find("JSON") == std::string::npos;
  if (!message.empty())
    return 0;
  ++tally.accepted;
  for (const TensorInfo &t : model.tensors)
    if (t.offset + t.size > file.size())
      __builtin_trap();
  if (llvm::Error e = model.indexTensors(architecture)) {
    llvm::consumeError(std::move(e));
    return 0;
  }
  for (const TensorInfo &stack : model.stacks) {
    uint64_t sum = 0;
    for (const Segment &piece : stack.segments()) {
      if (piece.offset + piece.size > file.size())
        __builtin_trap();
      sum += piece.size;
    }
    if (sum != stack.size)
      __builtin_trap();
  }
  std::string report;
  llvm::raw_string_ostream(report) << llvm::json::Value(inspect(model));
  return 0;
}
