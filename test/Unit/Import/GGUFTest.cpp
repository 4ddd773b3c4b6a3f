// What the GGUF reader accepts, and the message for each thing it refuses.
#include "Builders.h"
#include <unistd.h>

using namespace quern::import;
using namespace quern::test;

namespace {

Gguf small() {
  Gguf g;
  g.text("general.architecture", "llama").u32("llama.block_count", 1).f32("llama.eps", 0.5f);
  g.strings("tokenizer.ggml.tokens", {"a", "bé"});
  g.tensor("token_embd.weight", {32, 2}, 8, std::string(68, '\1'));
  g.tensor("output_norm.weight", {3}, 0, floats({1, 2, 3}));
  return g;
}

std::string errorOf(const Gguf &g) {
  Scratch scratch;
  return openError(scratch.write("m.gguf", g.bytes()));
}

std::string errorOfBytes(const std::string &bytes) {
  Scratch scratch;
  return openError(scratch.write("m.gguf", bytes));
}

TEST(GGUF, ReadsMetadataAndTensors) {
  for (uint32_t version : {2, 3}) {
    Gguf g = small();
    g.version = version;
    Scratch scratch;
    auto model = open(scratch.write("m.gguf", g.bytes()));
    ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
    EXPECT_EQ(model->container, Container::GGUF);
    EXPECT_EQ(*model->metadata.getString("general.architecture"), "llama");
    EXPECT_EQ(*model->metadata.getInteger("llama.block_count"), 1);
    EXPECT_EQ(*model->metadata.getNumber("llama.eps"), 0.5);
    EXPECT_EQ(*(*model->metadata.getArray("tokenizer.ggml.tokens"))[1].getAsString(), "bé");
    ASSERT_EQ(model->metadataKeys.size(), 4u);
    EXPECT_EQ(model->metadataKeys[3].element, MetadataType::String);
    const TensorInfo *embedding = model->find("token_embd.weight");
    ASSERT_TRUE(embedding);
    EXPECT_EQ(embedding->shape, (std::vector<int64_t>{2, 32}));
    EXPECT_EQ(embedding->fileType, "Q8_0");
    EXPECT_EQ(embedding->size, 68u);
    const TensorInfo *norm = model->find("output_norm.weight");
    ASSERT_TRUE(norm);
    std::vector<uint8_t> bytes;
    ASSERT_FALSE(bool(readTensor(*model, *norm, bytes)));
    EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({1, 2, 3}));
    auto mapped = mapTensor(*model, *norm);
    ASSERT_TRUE(bool(mapped));
    EXPECT_EQ(mapped->bytes(), llvm::ArrayRef<uint8_t>(bytes));
    EXPECT_EQ(model->find("missing"), nullptr);
  }
}

TEST(GGUF, HonoursTheAlignmentKey) {
  Gguf g;
  g.alignment = 64;
  g.u32("general.alignment", 64);
  g.tensor("a", {1}, 0, floats({1})).tensor("b", {1}, 0, floats({2}));
  Scratch scratch;
  auto model = open(scratch.write("m.gguf", g.bytes()));
  ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
  std::vector<uint8_t> bytes;
  ASSERT_FALSE(bool(readTensor(*model, *model->find("b"), bytes)));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({2}));
}

TEST(GGUF, RefusesBadHeaders) {
  Gguf g = small();
  g.magic = "GGUX";
  EXPECT_CONTAINS(errorOf(g), "neither GGUF (no magic 'GGUF' at byte 0) nor safetensors");
  g = small();
  g.version = 1;
  EXPECT_CONTAINS(errorOf(g), "version 1 is not supported; expected 2 or 3");
  g.version = 4;
  EXPECT_CONTAINS(errorOf(g), "version 4 is not supported");
  g.version = 0x03000000;
  EXPECT_CONTAINS(errorOf(g), "big-endian");
  g = small();
  g.extraKeys = uint64_t(1) << 60;
  EXPECT_CONTAINS(errorOf(g), "metadata keys, more than its");
  g = small();
  g.extraTensors = uint64_t(1) << 60;
  EXPECT_CONTAINS(errorOf(g), "tensors, more than its");
  EXPECT_CONTAINS(errorOfBytes("GGUF\3"), "inside the version");
  EXPECT_CONTAINS(errorOfBytes(std::string("GGUF\3\0\0\0\1", 9)), "inside the counts");
}

TEST(GGUF, EveryTruncationIsAnError) {
  std::string bytes = small().bytes();
  for (size_t n = 0; n < bytes.size(); ++n)
    EXPECT_NE(errorOfBytes(bytes.substr(0, n)), "(no error)") << n;
}

TEST(GGUF, RefusesBadMetadata) {
  auto withKey = [](const std::string &raw) {
    Gguf g = small();
    g.rawKey(raw);
    return errorOf(g);
  };
  EXPECT_CONTAINS(errorOf(small().u32("llama.block_count", 2)),
                  "metadata key 'llama.block_count' occurs twice");
  EXPECT_CONTAINS(errorOf(small().text("", "x")), "metadata key number 4 is empty");
  EXPECT_CONTAINS(withKey(Bytes().string("k").put(uint32_t(13)).put(uint64_t(0)).data),
                  "'k' has the unknown type 13");
  EXPECT_CONTAINS(withKey(Bytes().put(uint64_t(70000)).raw(std::string(70000, 'k')).data),
                  "has a length of 70000; at most 65535");
  EXPECT_CONTAINS(withKey(Bytes().string("k").put(uint32_t(8)).put(uint64_t(-1)).data),
                  "'k' has a length of 18446744073709551615, but only");
  EXPECT_CONTAINS(
      withKey(Bytes().string("k").put(uint32_t(7)).put(uint8_t(2)).raw("........").data),
      "'k' is a bool of value 2; expected 0 or 1");
  EXPECT_CONTAINS(
      withKey(Bytes().string("k").put(uint32_t(9)).put(uint32_t(9)).put(uint64_t(0)).data),
      "'k' is an array of arrays");
  EXPECT_CONTAINS(
      withKey(Bytes().string("k").put(uint32_t(9)).put(uint32_t(77)).put(uint64_t(0)).data),
      "'k' is an array of unknown type 77");
  EXPECT_CONTAINS(
      withKey(Bytes().string("k").put(uint32_t(9)).put(uint32_t(10)).put(uint64_t(1) << 61).data),
      "'k' is an array of 2305843009213693952 elements, but only");
  EXPECT_CONTAINS(withKey(Bytes().string("k").put(uint32_t(8)).string("\xff").data),
                  "'k' is not valid UTF-8 at byte 0");
  EXPECT_CONTAINS(errorOf(small().u32("general.alignment", 24)),
                  "'general.alignment' is 24; expected a power of two of at least 8");
  EXPECT_CONTAINS(errorOf(small().u32("general.alignment", 0)), "expected a power of two");
  EXPECT_CONTAINS(errorOf(small().f32("general.alignment", 32)), "must be a uint32");
}

TEST(GGUF, AnArrayTooLongForMemoryIsRefused) {
  uint64_t count = (uint64_t(1) << 23) + 1;
  Gguf g = small();
  g.rawKey(Bytes()
               .string("k")
               .put(uint32_t(9))
               .put(uint32_t(0))
               .put(count)
               .raw(std::string(count, '\0'))
               .data);
  EXPECT_CONTAINS(errorOf(g),
                  "'k' brings the metadata's arrays to 8388611 elements; at most 8388608");
}

TEST(GGUF, RefusesBadTensors) {
  auto with = [](const std::vector<uint64_t> &dims, uint32_t type, uint64_t offset) {
    return errorOf(small().tensorAt("t", dims, type, offset));
  };
  EXPECT_CONTAINS(errorOf(small().tensor("output_norm.weight", {1}, 0, floats({1}))),
                  "tensor 'output_norm.weight' occurs twice");
  EXPECT_CONTAINS(with({}, 0, 96), "'t' has 0 dimensions; expected 1 to 4");
  EXPECT_CONTAINS(with({1, 1, 1, 1, 1}, 0, 96), "'t' has 5 dimensions");
  EXPECT_CONTAINS(with({4, 0}, 0, 96), "dimension 1 of tensor 't' is 0");
  EXPECT_CONTAINS(with({uint64_t(1) << 63}, 0, 96),
                  "dimension 0 of tensor 't' is 9223372036854775808");
  EXPECT_CONTAINS(with({1}, 31, 96), "'t' has the unknown type 31");
  EXPECT_CONTAINS(with({48}, 2, 96), "'t' has rows of 48 elements; Q4_0 needs a multiple of 32");
  EXPECT_CONTAINS(with({uint64_t(1) << 40, uint64_t(1) << 40}, 0, 96),
                  "the size of tensor 't' overflows 63 bits");
  EXPECT_CONTAINS(with({uint64_t(1) << 61}, 0, 96), "overflows 63 bits");
  EXPECT_CONTAINS(with({1}, 0, 100), "'t' lies at offset 100, not a multiple of the alignment 32");
  EXPECT_CONTAINS(with({1}, 0, 96), "tensors 'output_norm.weight' and 't' overlap at byte");
  EXPECT_CONTAINS(with({1}, 0, 64), "tensors 'token_embd.weight' and 't' overlap at byte");
  EXPECT_CONTAINS(with({1000}, 0, 128), "'t' needs 4000 bytes at offset 128 of the data");
  EXPECT_CONTAINS(with({1}, 0, ~uint64_t(31)), "'t' needs 4 bytes at offset 18446744073709551584");
  EXPECT_CONTAINS(errorOf(small().tensor("", {1}, 0, floats({1}))),
                  "the name of tensor number 2 is empty");
  EXPECT_CONTAINS(errorOf(small().tensor(std::string(300, 'n'), {1}, 0, floats({1}))),
                  "length of 300; at most 255");
}

/// Header and holes only: the file takes no room on disk.
TEST(GGUF, OffsetsBeyondFourGigabytes) {
  Gguf g;
  uint64_t rows = (uint64_t(5) << 30) / 4096;
  g.text("general.architecture", "llama");
  g.tensorAt("big", {1024, rows}, 0, 0).tensorAt("last", {2}, 0, rows * 4096);
  Scratch scratch;
  std::string path = scratch.write("m.gguf", g.bytes());
  uint64_t start = g.bytes().size();
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(start + rows * 4096);
    file << floats({7, 9});
  }
  auto model = open(path);
  ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
  const TensorInfo *last = model->find("last");
  EXPECT_GT(last->offset, uint64_t(5) << 30);
  std::vector<uint8_t> bytes;
  ASSERT_FALSE(bool(readTensor(*model, *last, bytes)));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({7, 9}));
  auto mapped = mapTensor(*model, *last);
  ASSERT_TRUE(bool(mapped));
  EXPECT_EQ(mapped->bytes(), llvm::ArrayRef<uint8_t>(bytes));

  ASSERT_EQ(truncate(path.c_str(), start + rows * 4096), 0);
  EXPECT_CONTAINS(llvm::toString(readTensor(*model, *last, bytes)),
                  "tensor 'last': the file ends 8 bytes early");
  EXPECT_CONTAINS(llvm::toString(mapTensor(*model, *last).takeError()),
                  "tensor 'last': the file ends before it");
  EXPECT_CONTAINS(openError(path), "'last' needs 8 bytes");
}

Gguf part(uint16_t number, uint16_t count) {
  Gguf g;
  if (number == 0)
    g.text("general.architecture", "llama");
  g.key("split.no", MetadataType::UInt16, number).key("split.count", MetadataType::UInt16, count);
  g.key("split.tensors.count", MetadataType::Int32, int32_t(count));
  g.tensor("t" + std::to_string(number), {1}, 0, floats({float(number)}));
  return g;
}

TEST(GGUF, FollowsSplits) {
  Scratch scratch;
  std::string first = scratch.write("m-00001-of-00003.gguf", part(0, 3).bytes());
  EXPECT_CONTAINS(openError(first), "m-00002-of-00003.gguf: No such file");
  std::string second = scratch.write("m-00002-of-00003.gguf", part(1, 3).bytes());
  scratch.write("m-00003-of-00003.gguf", part(2, 3).bytes());
  auto model = open(first);
  ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
  ASSERT_EQ(model->tensors.size(), 3u);
  EXPECT_EQ(model->files.size(), 3u);
  std::vector<uint8_t> bytes;
  for (unsigned i = 0; i < 3; ++i) {
    ASSERT_FALSE(bool(readTensor(*model, *model->find("t" + std::to_string(i)), bytes)));
    EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({float(i)}));
  }
  EXPECT_CONTAINS(openError(second), "this is file 2 of 3 of a split model; open the first one");
  scratch.write("m-00003-of-00003.gguf", part(1, 3).bytes());
  EXPECT_CONTAINS(openError(first), "expected 'split.no' 2 and 'split.count' 3, found 1 and 3");
  Gguf repeated = part(2, 3);
  repeated.tensors.clear();
  repeated.tensor("t1", {1}, 0, floats({1}));
  scratch.write("m-00003-of-00003.gguf", repeated.bytes());
  EXPECT_CONTAINS(openError(first), "tensor 't1' occurs in an earlier file too");
  scratch.write("m-00003-of-00003.gguf", part(2, 3).tensor("extra", {1}, 0, floats({1})).bytes());
  EXPECT_CONTAINS(openError(first), "'split.tensors.count' is 3, but the files hold 4 tensors");
  EXPECT_CONTAINS(openError(scratch.write("other.gguf", part(0, 3).bytes())),
                  "expected the first one's name to end in '-00001-of-00003.gguf'");
}

} // namespace
