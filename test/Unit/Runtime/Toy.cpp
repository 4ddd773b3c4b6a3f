#include "Toy.h"
#include "quern/Runtime/Hash.h"
#include "quern/Runtime/Payload.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

using namespace quern::runtime;

namespace toy {
static float weightOf(int32_t v) { return 0.5f * float(v % 5); }

static void forward(const quern_step *s, int32_t thread, int32_t threads) {
  // Slot layout: [context] tokens as int32.
  auto cacheOf = [&](int32_t i) {
    return reinterpret_cast<int32_t *>(s->cache + size_t(s->sequences[i]) * context * 4);
  };
  for (int32_t i = thread; i < s->token_count; i += threads)
    cacheOf(i)[s->positions[i]] = s->tokens[i];
  quern_barrier(s->barrier, thread, threads);
  auto *weights = reinterpret_cast<const float *>(s->weights[1]);
  for (int32_t o = 0; o < s->output_count; ++o) {
    int32_t i = s->outputs[o];
    for (int32_t v = thread; v < vocab; v += threads) {
      float sum = weights[v];
      for (int32_t p = 0; p <= s->positions[i]; ++p)
        sum += float((p + 1) * (cacheOf(i)[p] + v) % 7);
      s->logits[size_t(o) * vocab + size_t(v)] = sum;
    }
    if (s->embeddings && thread == 0)
      for (int32_t w = 0; w < width; ++w)
        s->embeddings[o * width + w] = float(s->tokens[i] * 10 + w);
  }
  quern_barrier(s->barrier, thread, threads);
}

std::vector<float> expectedLogits(const std::vector<int32_t> &history) {
  std::vector<float> row;
  for (int32_t v = 0; v < vocab; ++v) {
    float sum = weightOf(v);
    for (size_t p = 0; p < history.size(); ++p)
      sum += float((int32_t(p) + 1) * (history[p] + v) % 7);
    row.push_back(sum);
  }
  return row;
}

quern_program program() {
  static const quern_target targets[] = {{"never", "no-such-feature", forward},
                                         {"any", "", forward}};
  static const quern_weight weights[] = {{"unused", 0, 64}, {"bias", 128, vocab * 4}};
  quern_program p = {};
  p.abi_version = QUERN_ABI_VERSION;
  p.target_count = 2;
  p.targets = targets;
  p.weight_count = 2;
  p.weights = weights;
  p.vocab_size = vocab;
  p.width = width;
  p.context = context;
  p.max_tokens = maxTokens;
  p.cache_bytes = context * 4;
  p.scratch_bytes = 64;
  p.max_threads = 8;
  return p;
}

std::string directory() {
  // Never destroyed: the exit handler reads it.
  static const std::string &dir = *new std::string([] {
    std::string pattern = (std::filesystem::temp_directory_path() / "quern-XXXXXX").string();
    if (!mkdtemp(pattern.data()))
      std::abort();
    std::atexit([] { std::filesystem::remove_all(directory()); });
    return pattern;
  }());
  return dir;
}

std::string writePayload(const std::string &name, size_t damageFromEnd) {
  std::vector<uint8_t> file(payloadAlignment, 0x7F); // stands for the program's image
  PayloadFooter footer = {};
  Hash64 weightsHash, contents;
  auto section = [&](PayloadSection kind, const void *data, size_t size) {
    file.resize((file.size() + payloadAlignment - 1) / payloadAlignment * payloadAlignment);
    footer.sections[kind] = {file.size(), size};
    (kind == WeightSection ? weightsHash : contents).update(data, size);
    auto *p = static_cast<const uint8_t *>(data);
    file.insert(file.end(), p, p + size);
  };
  std::vector<float> weights(32 + vocab);
  for (int32_t v = 0; v < vocab; ++v)
    weights[size_t(32 + v)] = weightOf(v);
  const char *metadata = "{\"name\": \"toy\"}";
  section(WeightSection, weights.data(), weights.size() * 4);
  section(MetadataSection, metadata, std::strlen(metadata));
  for (PayloadSection kind : {TokenizerSection, ChatSection})
    footer.sections[kind].offset = payloadAlignment;
  std::memcpy(footer.magic, payloadMagic, sizeof footer.magic);
  footer.version = payloadVersion;
  footer.fileSize = file.size() + sizeof footer;
  footer.weightsHash = weightsHash.finish();
  footer.contentsHash = contents.finish();
  Hash64 hash;
  hash.update(&footer, offsetof(PayloadFooter, footerHash));
  footer.footerHash = hash.finish();
  auto *p = reinterpret_cast<const uint8_t *>(&footer);
  file.insert(file.end(), p, p + sizeof footer);
  if (damageFromEnd)
    file[file.size() - damageFromEnd] ^= 1;
  std::string path = directory() + "/" + name;
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char *>(file.data()), std::streamsize(file.size()));
  return path;
}
} // namespace toy
