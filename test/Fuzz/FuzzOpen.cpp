// Fuzzes what is made of several files: split GGUF models, Hugging Face directories with shards and
// an index, payloads of programs; then reading tensors, and converting to the other container.
#include "Files.h"
#include "Generator.h"
#include "Payload.h"
#include "quern/Export/Convert.h"
#include "quern/Import/Inspect.h"
#include "quern/Import/ModelConfig.h"
#include "quern/Import/Tokenizer.h"
#include <cmath>

using namespace quern::import;
using quern::fuzz::Decisions;
using quern::fuzz::Folder;

namespace {

template <typename T> std::string bytes(T value) {
  return std::string(reinterpret_cast<const char *>(&value), sizeof(T));
}
std::string sized(const std::string &text) { return bytes(uint64_t(text.size())) + text; }

//===--- A small model ----------------------------------------------------===//

struct Tensor {
  std::string name;
  std::vector<uint64_t> shape; ///< outermost first
};

/// Two heads of four, a feed-forward width of 32, four tokens.
std::vector<Tensor> tensors(Decisions &d, bool gguf) {
  static const char *const names[][2] = {
      {"blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"},
      {"blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight"},
      {"blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight"},
      {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
      {"blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias"},
      {"blk.0.ffn_up_exps.weight", "model.layers.0.mlp.experts.gate_up_proj"},
      {"output.weight", "lm_head.weight"},
      {"rope_freqs.weight", "model.layers.0.mlp.experts.0.down_proj.weight"},
      {"x", "model.layers.0.mlp.experts.1.down_proj.weight"}};
  static const uint64_t shapes[][3] = {{8, 8},    {8, 8}, {32, 8}, {8, 0}, {8, 0},
                                       {2, 4, 8}, {4, 8}, {2, 0},  {8, 2}};
  std::vector<Tensor> out;
  if (!d.rarely(10))
    out.push_back({gguf ? "token_embd.weight" : "model.embed_tokens.weight", {4, 8}});
  for (unsigned i = 0; i < std::size(names); ++i) {
    if (d.below(i < 5 ? 2 : 8))
      continue;
    Tensor t{names[i][gguf ? 0 : 1], {}};
    for (uint64_t extent : shapes[!gguf && i == 7 ? 8 : i])
      if (extent)
        t.shape.push_back(d.rarely(40) ? d.below(9) : extent);
    out.push_back(t);
    if (d.rarely(40))
      out.push_back(t);
  }
  return out;
}

/// Keys of a vocabulary of four tokens that tokenizer.json has words for, more often than not.
std::vector<std::string> vocabulary(Decisions &d) {
  static const char *const kinds[] = {"gpt2", "llama", "t5"};
  static const char *const patterns[] = {"gpt-2", "llama-bpe", "qwen2", "smollm", "deepseek-coder"};
  std::vector<std::string> keys;
  auto key = [](const std::string &name, uint32_t type) {
    return sized("tokenizer." + name) + bytes(type);
  };
  auto text = [&](const std::string &name, const std::string &value) {
    keys.push_back(key(name, 8) + sized(value));
  };
  auto list = [&](const std::string &name, uint32_t type, std::vector<std::string> values) {
    std::string k = key("ggml." + name, 9) + bytes(type) + bytes(uint64_t(values.size()));
    for (const std::string &value : values)
      k += value;
    keys.push_back(std::move(k));
  };
  unsigned kind = d.below(3);
  text("ggml.model", kinds[kind]);
  if (kind == 0)
    text("ggml.pre", d.pick(patterns));
  std::string space = kind == 0 ? "\u0120a" : "\u2581a";
  list("tokens", 8, {sized("a"), sized(d.below(2) ? "b" : space), sized("ab"), sized("<s>")});
  if (kind == 0)
    list("merges", 8, {sized("a b")});
  else
    list("scores", 6, {bytes(-1.0f), bytes(-2.0f), bytes(d.rarely(20) ? NAN : -0.5f), bytes(0.0f)});
  if (d.below(3)) {
    static const int32_t special[] = {3, 2, 4, 1};
    list("token_type", 5,
         {bytes(1), bytes(d.rarely(20) ? int32_t(d.byte()) : 1), bytes(1),
          bytes(special[d.below(4)])});
  }
  for (const char *name : {"bos", "eos", "unknown", "padding"})
    if (d.below(2))
      keys.push_back(key(std::string("ggml.") + name + "_token_id", 4) +
                     bytes(d.rarely(20) ? uint32_t(d.count(9)) : 3u));
  for (const char *name : {"add_bos_token", "add_space_prefix", "remove_extra_whitespaces"})
    if (d.below(2))
      keys.push_back(key(std::string("ggml.") + name, 7) + bytes(uint8_t(d.below(2))));
  if (d.below(4) == 0)
    text("chat_template", "{{ messages[0].content }}");
  return keys;
}

std::string gguf(Decisions &d, const std::vector<Tensor> &tensors, unsigned part, unsigned parts,
                 size_t total) {
  std::vector<std::string> keys;
  auto u32 = [&](const std::string &key, uint32_t value) {
    keys.push_back(sized(key) + bytes(uint32_t(4)) +
                   bytes(d.rarely(60) ? uint32_t(d.count(9)) : value));
  };
  if (parts > 1) {
    u32("split.no", part);
    u32("split.count", parts);
    if (d.below(4) == 0)
      u32("split.tensors.count", total);
  }
  if (part == 0) {
    static const char *const architectures[] = {"llama", "llama",  "qwen2",
                                                "phi3",  "gemma3", "bert"};
    std::string architecture = d.pick(architectures);
    keys.push_back(sized("general.architecture") + bytes(uint32_t(8)) + sized(architecture));
    static const std::pair<const char *, uint32_t> numbers[] = {
        {".block_count", 1},          {".embedding_length", 8}, {".attention.head_count", 2},
        {".feed_forward_length", 32}, {".context_length", 64},  {".vocab_size", 4}};
    for (auto [key, value] : numbers)
      u32(architecture + key, value);
    static const char *const scalings[] = {"linear", "yarn", "longrope", "none"};
    if (d.below(3) == 0) {
      keys.push_back(sized(architecture + ".rope.scaling.type") + bytes(uint32_t(8)) +
                     sized(d.pick(scalings)));
      keys.push_back(sized(architecture + ".rope.scaling.factor") + bytes(uint32_t(6)) +
                     bytes(d.rarely(20) ? NAN : 4.0f));
      u32(architecture + ".rope.scaling.original_context_length", 16);
      if (d.below(2))
        keys.push_back(sized(architecture + ".rope.scaling.yarn_beta_fast") + bytes(uint32_t(6)) +
                       bytes(24.0f));
    }
    if (d.below(2))
      for (std::string &key : vocabulary(d))
        keys.push_back(std::move(key));
  }
  std::string data, list;
  for (const Tensor &t : tensors) {
    list += sized(t.name) + bytes(uint32_t(t.shape.size()));
    uint64_t elements = 1;
    for (size_t i = t.shape.size(); i-- > 0;) {
      list += bytes(t.shape[i]);
      elements *= t.shape[i];
    }
    uint32_t type = d.below(3) == 0 ? 1 : 0;
    list += bytes(type) + bytes(uint64_t(data.size()));
    data.resize((data.size() + elements * (type ? 2 : 4) + 31) / 32 * 32);
  }
  std::string file =
      "GGUF" + bytes(uint32_t(3)) + bytes(uint64_t(tensors.size())) + bytes(uint64_t(keys.size()));
  for (const std::string &key : keys)
    file += key;
  file += list;
  file.resize((file.size() + 31) / 32 * 32);
  file += data;
  quern::fuzz::spoil(d, file, 30);
  return file;
}

std::string safetensors(Decisions &d, const std::vector<Tensor> &tensors) {
  static const std::pair<const char *, unsigned> types[] = {
      {"F32", 4}, {"BF16", 2}, {"F16", 2}, {"F8_E4M3", 1}};
  std::string header = "{", data;
  for (const Tensor &t : tensors) {
    auto [type, size] = types[d.below(4)];
    std::string shape;
    for (uint64_t extent : t.shape) {
      shape += (shape.empty() ? "" : ",") + std::to_string(extent);
      size *= extent;
    }
    header += (header.size() > 1 ? ",\"" : "\"") + t.name + "\":{\"dtype\":\"" + type +
              "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(data.size()) +
              "," + std::to_string(data.size() + size) + "]}";
    data.resize(data.size() + size);
  }
  header += "}";
  quern::fuzz::spoil(d, header, 40);
  return sized(header) + data;
}

//===--- Files ------------------------------------------------------------===//

void writeSplits(Decisions &d, Folder &folder) {
  unsigned parts = 1 + d.below(4);
  std::vector<Tensor> all = tensors(d, true);
  for (unsigned i = 0; i < parts; ++i) {
    std::vector<Tensor> own;
    for (size_t t = i; t < all.size(); t += parts)
      own.push_back(all[t]);
    char name[40];
    std::snprintf(name, sizeof name, parts > 1 ? "m-%05u-of-%05u.gguf" : "m.gguf", i + 1, parts);
    std::string file = gguf(d, own, d.rarely(60) ? d.below(4) : i, parts, all.size());
    if (!d.rarely(60))
      folder.write(name, file);
  }
}

void writeDirectory(Decisions &d, Folder &folder) {
  static const char *const types[] = {"llama", "llama",       "qwen2",
                                      "phi3",  "gemma3_text", "qwen3_moe"};
  if (!d.rarely(20)) {
    std::string config = std::string("{\"model_type\":\"") + d.pick(types) +
                         "\",\"hidden_size\":8,\"num_attention_heads\":2,\"head_dim\":4,"
                         "\"num_hidden_layers\":1,\"intermediate_size\":32,\"vocab_size\":4,"
                         "\"max_position_embeddings\":64";
    if (d.rarely(20))
      config += ",\"quantization_config\":{\"quant_method\":\"awq\"}";
    static const char *const scalings[] = {
        R"("type":"yarn","factor":4,"original_max_position_embeddings":16)",
        R"("rope_type":"yarn","factor":4,"beta_fast":24,"attention_factor":0.75)",
        R"("rope_type":"linear","factor":2)",
        R"("rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,)"
        R"("original_max_position_embeddings":32)",
        R"("type":"longrope","short_factor":[1,1.5],"long_factor":[2,3],"factor":4,)"
        R"("original_max_position_embeddings":16)"};
    if (d.below(2) == 0)
      config += std::string(",\"rope_scaling\":{") + d.pick(scalings) + "}";
    config += "}";
    quern::fuzz::spoil(d, config, 30);
    folder.write("config.json", config);
  }
  if (d.below(2)) {
    std::string tokenizer =
        R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},)"
        R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},)"
        R"("added_tokens":[{"id":3,"content":"<s>","special":true}]})";
    quern::fuzz::spoil(d, tokenizer, 12);
    folder.write("tokenizer.json", tokenizer);
    if (d.below(3) == 0)
      folder.write("tokenizer_config.json", d.rarely(8) ? "[]" : R"({"bos_token":"<s>"})");
    if (d.below(3) == 0)
      folder.write("generation_config.json", R"({"eos_token_id":[3,1e300]})");
    if (d.below(3) == 0)
      folder.write("chat_template.jinja", d.rarely(8) ? d.text(5) : "{{ messages }}");
  }
  std::vector<Tensor> all = tensors(d, false);
  if (d.below(3) == 0) {
    folder.write("model.safetensors", safetensors(d, all));
    return;
  }
  unsigned shards = 1 + d.below(3);
  std::string map;
  for (unsigned i = 0; i < shards; ++i) {
    std::string name = "s" + std::to_string(i) + ".safetensors";
    std::vector<Tensor> own;
    for (size_t t = i; t < all.size(); t += shards) {
      own.push_back(all[t]);
      map += (map.empty() ? "\"" : ",\"") + all[t].name + "\":\"" +
             (d.rarely(60) ? d.text(8) : name) + "\"";
    }
    if (!d.rarely(40))
      folder.write(name, safetensors(d, own));
  }
  std::string index = "{\"metadata\":{},\"weight_map\":{" + map + "}}";
  quern::fuzz::spoil(d, index, 30);
  if (d.rarely(40))
    folder.write("pytorch_model.bin", "x");
  else
    folder.write("model.safetensors.index.json", index);
}

/// A program's payload, at times with its weights in a file beside.
void writeProgram(Decisions &d, Folder &folder) {
  static const char *const metadata[] = {
      R"({"name":"x","list":[{"a":1},{"b":[2]},3],"n":1e400})",
      (R"({"name":"x","tensors":[{"name":"a","shape":[4,8],"format":"q4_0","bits":4.5,"bytes":18,)"
       R"("layout":"panel","kernel":"k"},{"name":"\u001b[2J","shape":[1e300,null],"bits":true},3]})"),
      R"({"tensors":{},"context":-1})", ""};
  std::string text = d.pick(metadata);
  quern::fuzz::spoil(d, text, 8);
  bool beside = d.below(4) == 0;
  quern::fuzz::PayloadParts parts{{beside ? "" : "w", "t", "c", text}, beside, 7, ""};
  if (d.below(4) == 0) {
    parts.packed = std::string(1, char(d.rarely(8))) + d.text(200); // a stream begins with 0
    parts.sections[quern::runtime::MetadataSection] = d.below(2) ? "" : std::string(d.byte(), 0);
  }
  folder.write("program", payload(d, std::move(parts)));
  if (beside && !d.rarely(8))
    folder.write("program.weights",
                 payload(d, {{"w", "", "", ""}, 0, uint64_t(d.rarely(8) ? 8 : 7), ""}));
}

//===--- Uses -------------------------------------------------------------===//

template <typename T> bool good(llvm::Expected<T> value) {
  if (value)
    return true;
  llvm::consumeError(value.takeError());
  return false;
}

uint64_t conversionsTried = 0, converted = 0;

void use(Decisions &d, const ModelFile &model, Folder &folder) {
  std::vector<uint8_t> data;
  for (const std::vector<TensorInfo> *list : {&model.tensors, &model.stacks})
    for (const TensorInfo &tensor : *list) {
      if (llvm::Error e = readTensor(model, tensor, data))
        abort(); // open() has checked the range
      llvm::Expected<TensorBytes> mapped = mapTensor(model, tensor);
      if (!mapped || mapped->bytes() != llvm::ArrayRef<uint8_t>(data))
        abort();
    }
  good(readConfig(model));
  good(readTokenizer(model));
  std::string report;
  llvm::raw_string_ostream(report) << llvm::json::Value(inspect(model, d.below(2)));
  if (d.below(4) > 1)
    return; // files cost the most time
  static const char *const outputs[] = {"out.gguf", "out.safetensors", "out"};
  quern::exporter::ConvertOptions options;
  if (d.below(2))
    (d.below(2) ? options.format : options.dequantize) = d.below(2) ? "bf16" : "f32";
  if (d.rarely(4))
    options.format = d.below(2) ? "q8_0" : "q4_K";
  options.force = true;
  std::string out = folder.path(d.pick(outputs));
  ++conversionsTried;
  if (llvm::Error e = quern::exporter::convert(model, out, options)) {
    quern::fuzz::show("convert: " + llvm::toString(std::move(e)));
    return;
  }
  ++converted;
  // What was written is a model.
  llvm::Expected<ModelFile> again = open(out);
  if (!again) {
    llvm::errs() << llvm::toString(again.takeError()) << "\n";
    abort();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static quern::fuzz::Tally tally("model files");
  static Folder folder;
  static quern::fuzz::Tally conversions("conversions");
  Decisions d(bytes, size);
  folder.clear();
  ++tally.runs;
  unsigned kind = d.below(8);
  if (kind == 7) {
    writeProgram(d, folder);
    std::string path = folder.path("program");
    bool program = isProgram(path);
    tally.header += program;
    if (llvm::Expected<llvm::json::Object> report = inspectProgram(path)) {
      std::string text;
      llvm::raw_string_ostream os(text);
      printProgram(*report, os);
      ++tally.accepted;
    } else {
      llvm::consumeError(report.takeError());
    }
    return 0;
  }
  bool splits = kind < 3;
  if (splits)
    writeSplits(d, folder);
  else
    writeDirectory(d, folder);
  std::string path = splits ? folder.first(".gguf") : folder.path("");
  if (path.empty())
    return 0;
  if (!splits && d.below(4) == 0)
    good(openTokenizer(path));
  llvm::Expected<ModelFile> model = open(path);
  if (!model) {
    std::string message = llvm::toString(model.takeError());
    quern::fuzz::show(message);
    if (message.find(folder.path("")) != 0)
      abort(); // every message begins with the file
    // A header that was understood: of the first file at least.
    tally.header += message.find("magic") == std::string::npos &&
                    message.find("JSON") == std::string::npos &&
                    message.find("header") == std::string::npos;
    return 0;
  }
  ++tally.header;
  ++tally.accepted;
  use(d, *model, folder);
  conversions.runs = conversionsTried;
  conversions.header = conversions.accepted = converted;
  return 0;
}
