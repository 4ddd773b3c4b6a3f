// Fuzzes the readers of importance matrices, GGUF and legacy, and writes what they read in both
// formats again.
#include "Files.h"
#include "Generator.h"
#include "quern/Quantize/Statistics.h"
#include "llvm/Support/xxhash.h"
#include <cmath>

using namespace quern::quantize;
using quern::fuzz::Decisions;
using quern::fuzz::Folder;

namespace {

struct Bytes {
  std::string data;
  template <typename T> void put(T value) {
    data.append(reinterpret_cast<const char *>(&value), sizeof(T));
  }
  template <typename Length> void string(const std::string &text) {
    put(Length(text.size()));
    data += text;
  }
};

/// Of a weight: sums of `matrices` matrices, one after the other.
struct Entry {
  std::string name;
  uint64_t columns = 0, matrices = 0;
  std::vector<float> sums, counts;
};

float square(Decisions &d) {
  static const float odd[] = {-1, NAN, INFINITY, 3e38f, 1e-45f, -0.0f};
  return d.rarely(80) ? odd[d.below(6)] : float(d.byte()) / 4;
}

std::vector<Entry> entries(Decisions &d) {
  static const char *const names[] = {"blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight",
                                      "output.weight", "a"};
  std::vector<Entry> out;
  for (unsigned n = d.rarely(30) ? 0 : 1 + d.below(4); n > 0; --n) {
    Entry e;
    e.name = d.rarely(20) ? d.text(6) : std::to_string(n) + d.pick(names);
    e.columns = 1 + d.below(6);
    e.matrices = d.below(3) ? 1 : 1 + d.below(3);
    for (uint64_t i = 0; i < e.columns * e.matrices; ++i)
      e.sums.push_back(square(d));
    static const float odd[] = {-1, NAN, 1e18f, 9e17f, 0.5f, 5e9f};
    for (uint64_t i = 0; i < e.matrices; ++i)
      e.counts.push_back(d.rarely(40) ? odd[d.below(6)] : float(d.below(20)));
    out.push_back(std::move(e));
    if (d.rarely(60))
      out.push_back(out.back());
  }
  return out;
}

std::string gguf(Decisions &d) {
  std::vector<std::string> keys, tensors;
  auto key = [&](const std::string &name, uint32_t type, auto fill) {
    Bytes k;
    k.string<uint64_t>(name);
    k.put(type);
    fill(k);
    keys.push_back(k.data);
  };
  if (!d.rarely(24))
    key("general.type", 8,
        [&](Bytes &k) { k.string<uint64_t>(d.rarely(24) ? "model" : "imatrix"); });
  if (d.below(2))
    key("imatrix.datasets", 9, [&](Bytes &k) {
      unsigned count = d.below(3), type = d.rarely(24) ? 4 : 8;
      k.put(uint32_t(type));
      k.put(uint64_t(count));
      for (unsigned i = 0; i < count; ++i)
        if (type == 8)
          k.string<uint64_t>(i ? "a, b" : "");
        else
          k.put(uint32_t(i));
    });
  for (const char *name : {"imatrix.chunk_count", "imatrix.chunk_size"})
    if (d.below(4))
      key(name, d.rarely(24) ? 6 : 4, [&](Bytes &k) { k.put(uint32_t(d.count(512))); });
  std::string data;
  auto tensor = [&](const std::string &name, std::vector<uint64_t> shape,
                    const std::vector<float> &values) {
    if (d.rarely(60))
      return;
    Bytes t;
    t.string<uint64_t>(name);
    t.put(uint32_t(shape.size()));
    for (uint64_t extent : shape)
      t.put(d.rarely(80) ? d.count(6) : extent);
    t.put(uint32_t(d.rarely(80) ? d.below(32) : 0));
    t.put(uint64_t(data.size()));
    tensors.push_back(t.data);
    data.append(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(float));
    data.resize((data.size() + 31) / 32 * 32);
  };
  for (const Entry &e : entries(d)) {
    tensor(e.name + ".in_sum2", {e.columns, e.matrices}, e.sums);
    tensor(e.name + ".counts", {1, e.matrices}, e.counts);
    if (d.rarely(20))
      tensor(e.name + ".other", {e.matrices}, e.counts);
  }
  Bytes b;
  b.data = "GGUF";
  b.put(uint32_t(3));
  b.put(uint64_t(tensors.size()));
  b.put(uint64_t(keys.size()));
  for (const auto *list : {&keys, &tensors})
    for (const std::string &text : *list)
      b.data += text;
  b.data.resize((b.data.size() + 31) / 32 * 32);
  return b.data + data;
}

std::string legacy(Decisions &d) {
  std::vector<Entry> all = entries(d);
  Bytes b;
  b.put(int32_t(d.rarely(40) ? d.count(9) : all.size()));
  for (const Entry &e : all) {
    if (d.rarely(60))
      b.put(int32_t(d.count(9)));
    b.string<int32_t>(e.name);
    b.put(int32_t(d.rarely(30) ? d.count(9) : d.below(9)));
    b.put(int32_t(d.rarely(60) ? d.count(9) : e.sums.size()));
    for (float value : e.sums)
      b.put(value);
  }
  if (d.below(3)) {
    b.put(int32_t(d.rarely(20) ? d.count(9) : d.byte()));
    if (d.below(2))
      b.string<int32_t>("text.txt");
  }
  return b.data;
}

/// Writes `read` and reads it again.
void roundTrip(const Statistics &read, const std::string &path) {
  if (llvm::Error e = read.writeImatrix(path, /*force=*/true)) {
    std::string message = llvm::toString(std::move(e));
    quern::fuzz::show(message);
    // A name may occur twice, and sums add up to more than the format holds.
    if (message.find("differ in their columns") == std::string::npos &&
        message.find("too large") == std::string::npos)
      abort();
    return;
  }
  llvm::Expected<Statistics> again = Statistics::readAny(path, nullptr);
  if (!again) {
    // The legacy format has no word for nothing.
    std::string message = llvm::toString(again.takeError());
    if (read.inputs.empty() && message.find("has 0 entries") != std::string::npos)
      return;
    llvm::errs() << message << "\n";
    abort();
  }
  for (const InputStatistics &input : again->inputs)
    for (double sum : input.sumSquare)
      if (!(std::isfinite(sum) && sum >= 0))
        abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static quern::fuzz::Tally tally("importance matrices");
  static Folder folder;
  Decisions d(bytes, size);
  ++tally.runs;
  bool isGguf = d.below(2);
  std::string file = isGguf ? gguf(d) : legacy(d);
  quern::fuzz::spoil(d, file, 12);
  llvm::Expected<Statistics> read = parseImatrix(file, "f");
  if (!read) {
    std::string message = llvm::toString(read.takeError());
    quern::fuzz::show(message);
    // Past the header: at an entry, a tensor or what is in one.
    for (const char *stage : {"importance of", "tensor", "entry", "only one", "add up"})
      if (message.find(stage) != std::string::npos) {
        ++tally.header;
        break;
      }
    return 0;
  }
  ++tally.header;
  ++tally.accepted;
  std::vector<std::pair<std::string, int64_t>> weights;
  for (const InputStatistics &input : read->inputs)
    weights.emplace_back(input.weights[0], input.columns);
  for (const auto &[weight, columns] : weights)
    for (int64_t experts : {2, 3})
      read->splitExperts(weight, experts, columns / experts);
  // Files cost the most time. Chosen by all bytes, since those that are read run out.
  if (llvm::xxh3_64bits(llvm::ArrayRef(bytes, size)) % 8 == 0) {
    quern::fuzz::forgetOutputs();
    roundTrip(*read, folder.path("out.gguf"));
    roundTrip(*read, folder.path("out.dat"));
  }
  return 0;
}
