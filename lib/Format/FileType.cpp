//===- FileType.cpp - GGUF's tensor types ---------------------------------===//
//
// The layout of each block type, as published in the file format, and the
// reading and writing of whole rows.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/FileType.h"
#include "BlockLayout.h"
#include "quern/Format/Known.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/CheckedArithmetic.h"
#include "llvm/Support/ErrorHandling.h"
#include <cstring>
#include <deque>
#include <functional>

using namespace quern::format;
using Target = BlockField::Target;

//===----------------------------------------------------------------------===//
// Layouts
//===----------------------------------------------------------------------===//

namespace {
/// Builds a BlockLayout field by field. Positions are bits, LSB first, from the block's start.
class LayoutBuilder {
public:
  explicit LayoutBuilder(const Spec &spec) : spec(spec) {}

  /// `elements` elements, each placed by place(field, element).
  template <typename Place>
  LayoutBuilder &field(Target target, unsigned elements, Place place, unsigned excess = 0) {
    BlockField f;
    f.target = target;
    f.excess = excess;
    f.elementBytes = elementBytesFor(bitsOf(target));
    for (unsigned e = 0; e < elements; ++e)
      place(f, e);
    f.finish();
    layout.fields.push_back(std::move(f));
    return *this;
  }

  /// One element at a byte offset, as wide as its number.
  LayoutBuilder &single(Target target, unsigned byte) {
    return field(target, 1, [&](BlockField &f, unsigned) { f.add(0, 8 * byte, bitsOf(target)); });
  }

  /// Codes of `width` bits in bytes that each hold codes i, i + stride, i + 2 stride...: the
  /// element of each `stride x 8/width` lies in `stride` bytes from `byte` on.
  LayoutBuilder &strided(unsigned elements, unsigned byte, unsigned width, unsigned stride,
                         unsigned excess = 0) {
    return field(
        Target::Codes, elements,
        [&](BlockField &f, unsigned e) { addStrided(f, e, byte, width, stride); }, excess);
  }

  static void addStrided(BlockField &f, unsigned e, unsigned byte, unsigned width,
                         unsigned stride) {
    unsigned perGroup = stride * (8 / width);
    f.add(e, 8 * (byte + e / perGroup * stride + e % stride) + width * (e % perGroup / stride),
          width);
  }

  BlockLayout layout;

private:
  unsigned bitsOf(Target target) const {
    switch (target) {
    case Target::Codes:
      return spec.code.bitsPerIndex();
    case Target::Scale0:
      return spec.scale[0].number.bits;
    case Target::Scale1:
      return spec.scale[1].number.bits;
    case Target::Offset0:
      return spec.offset[0].number.bits;
    case Target::Offset1:
      return spec.offset[1].number.bits;
    case Target::Zero0:
      return spec.zero[0].number.bits;
    }
    llvm_unreachable("unknown target");
  }

  const Spec &spec;
};
} // namespace

/// The twelve bytes of eight 6-bit scales and eight 6-bit minima that Q4_K and Q5_K share.
static void addKScales(LayoutBuilder &b, unsigned byte) {
  auto place = [byte](unsigned nibble) {
    return [byte, nibble](BlockField &f, unsigned j) {
      if (j < 4) {
        f.add(j, 8 * (byte + 4 * nibble + j), 6);
        return;
      }
      f.add(j, 8 * (byte + 4 + j) + 4 * nibble, 4);
      f.add(j, 8 * (byte + 4 * nibble + j - 4) + 6, 2);
    };
  };
  b.field(Target::Scale1, 8, place(0)).field(Target::Offset1, 8, place(1));
}

static void q4_0(LayoutBuilder &b) { b.single(Target::Scale0, 0).strided(32, 2, 4, 16, 8); }

static void q4_1(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).single(Target::Offset0, 2).strided(32, 4, 4, 16);
}

static auto fiveBits(unsigned high, unsigned low) {
  return [high, low](BlockField &f, unsigned e) {
    LayoutBuilder::addStrided(f, e, low, 4, 16);
    f.add(e, 8 * high + e, 1);
  };
}

static void q5_0(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).field(Target::Codes, 32, fiveBits(2, 6), 16);
}

static void q5_1(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).single(Target::Offset0, 2);
  b.field(Target::Codes, 32, fiveBits(4, 8));
}

static void q8_0(LayoutBuilder &b) { b.single(Target::Scale0, 0).strided(32, 2, 8, 32); }

static void q2_K(LayoutBuilder &b) {
  b.single(Target::Scale0, 80).single(Target::Offset0, 82);
  b.field(Target::Scale1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * j, 4); });
  b.field(Target::Offset1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * j + 4, 4); });
  b.strided(256, 16, 2, 32);
}

static void q3_K(LayoutBuilder &b) {
  b.single(Target::Scale0, 108);
  b.field(
      Target::Scale1, 16,
      [](BlockField &f, unsigned j) {
        f.add(j, 8 * (96 + j % 8) + 4 * (j / 8), 4);
        f.add(j, 8 * (104 + j % 4) + 2 * (j / 4), 2);
      },
      32);
  b.field(
      Target::Codes, 256,
      [](BlockField &f, unsigned e) {
        LayoutBuilder::addStrided(f, e, 32, 2, 32);
        f.add(e, 8 * (e % 32) + e / 32, 1);
      },
      4);
}

static void q4_K(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).single(Target::Offset0, 2);
  addKScales(b, 4);
  b.strided(256, 16, 4, 32);
}

static void q5_K(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).single(Target::Offset0, 2);
  addKScales(b, 4);
  b.field(Target::Codes, 256, [](BlockField &f, unsigned e) {
    LayoutBuilder::addStrided(f, e, 48, 4, 32);
    f.add(e, 8 * (16 + e % 32) + e / 32, 1);
  });
}

static void q6_K(LayoutBuilder &b) {
  b.single(Target::Scale0, 208);
  b.field(Target::Scale1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * (192 + j), 8); });
  b.field(
      Target::Codes, 256,
      [](BlockField &f, unsigned e) {
        LayoutBuilder::addStrided(f, e, 0, 4, 64);
        LayoutBuilder::addStrided(f, e, 128, 2, 32);
      },
      32);
}

static void iq4_nl(LayoutBuilder &b) { b.single(Target::Scale0, 0).strided(32, 2, 4, 16); }

static void iq4_xs(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).strided(256, 8, 4, 16);
  b.field(
      Target::Scale1, 8,
      [](BlockField &f, unsigned j) {
        f.add(j, 8 * 4 + 4 * j, 4);
        f.add(j, 8 * 2 + 2 * j, 2);
      },
      32);
}

static void tq1_0(LayoutBuilder &b) {
  b.single(Target::Scale0, 52);
  b.field(Target::Codes, 0, [](BlockField &, unsigned) {});
  BlockField &codes = b.layout.fields.back();
  codes.elements = 256;
  codes.trits = {{0, 0, 32, 5}, {32, 160, 16, 5}, {48, 240, 4, 4}};
}

static void tq2_0(LayoutBuilder &b) { b.single(Target::Scale0, 64).strided(256, 0, 2, 32); }

static void q1_0(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Codes, 128, [](BlockField &f, unsigned e) { f.add(e, 16 + e, 1); });
}

static void mxfp4(LayoutBuilder &b) { b.single(Target::Scale0, 0).strided(32, 1, 4, 16); }

static void nvfp4(LayoutBuilder &b) {
  b.field(Target::Scale0, 4, [](BlockField &f, unsigned j) { f.add(j, 8 * j, 8); });
  b.strided(64, 4, 4, 8);
}

static void iq2_xxs(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 8, [](BlockField &f, unsigned g) { f.add(g, 16 + 64 * g + 60, 4); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) {
    unsigned group = 16 + 64 * (j / 4);
    f.add(j, group + 8 * (j % 4), 8);
    f.add(j, group + 32 + 7 * (j % 4), 7);
  });
}

static void iq2_xs(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * 66 + 4 * j, 4); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) { f.add(j, 16 + 16 * j, 16); });
}

static void iq2_s(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * 74 + 4 * j, 4); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) {
    f.add(j, 8 * (2 + j), 8);
    f.add(j, 8 * 66 + 2 * j, 2);
    f.add(j, 8 * (34 + j), 8);
  });
}

static void iq3_xxs(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 8, [](BlockField &f, unsigned g) { f.add(g, 8 * 66 + 32 * g + 28, 4); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) {
    f.add(j, 16 + 16 * j, 16);
    f.add(j, 8 * 66 + 32 * (j / 4) + 7 * (j % 4), 7);
  });
}

static void iq3_s(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 8, [](BlockField &f, unsigned j) { f.add(j, 8 * 106 + 4 * j, 4); });
  b.field(Target::Codes, 64, [](BlockField &f, unsigned j) {
    f.add(j, 8 * (2 + j), 8);
    f.add(j, 8 * 66 + j, 1);
    f.add(j, 8 * 74 + 4 * j, 4);
  });
}

static void iq1_s(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  auto high = [](unsigned group) { return 8 * 34 + 16 * group; };
  b.field(Target::Scale1, 8, [&](BlockField &f, unsigned g) { f.add(g, high(g) + 12, 3); });
  b.field(Target::Zero0, 8, [&](BlockField &f, unsigned g) { f.add(g, high(g) + 15, 1); });
  b.field(Target::Codes, 32, [&](BlockField &f, unsigned j) {
    f.add(j, 8 * (2 + j), 8);
    f.add(j, high(j / 4) + 3 * (j % 4), 3);
  });
}

static void iq1_m(LayoutBuilder &b) {
  // The f16 scale lies in the top four bits of each of four words of 3-bit scales.
  b.field(Target::Scale0, 1, [](BlockField &f, unsigned) {
    for (unsigned k = 0; k < 4; ++k)
      f.add(0, 8 * 48 + 16 * k + 12, 4);
  });
  b.field(Target::Scale1, 16,
          [](BlockField &f, unsigned j) { f.add(j, 8 * 48 + 16 * (j / 4) + 3 * (j % 4), 3); });
  b.field(Target::Zero0, 32, [](BlockField &f, unsigned j) { f.add(j, 8 * 32 + 4 * j + 3, 1); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) {
    f.add(j, 8 * j, 8);
    f.add(j, 8 * 32 + 4 * j, 3);
  });
}

//===----------------------------------------------------------------------===//
// The table of types
//===----------------------------------------------------------------------===//

static const std::vector<FileType> &types() {
  struct Entry {
    llvm::StringLiteral name;
    unsigned id, elements, bytes;
    llvm::StringLiteral format;
    void (*build)(LayoutBuilder &);
  };
  static constexpr Entry entries[] = {
      {"F32", 0, 1, 4, "f32", nullptr},
      {"F16", 1, 1, 2, "f16", nullptr},
      {"Q4_0", 2, 32, 18, "q4_0", q4_0},
      {"Q4_1", 3, 32, 20, "q4_1", q4_1},
      {"Q5_0", 6, 32, 22, "q5_0", q5_0},
      {"Q5_1", 7, 32, 24, "q5_1", q5_1},
      {"Q8_0", 8, 32, 34, "q8_0", q8_0},
      {"Q2_K", 10, 256, 84, "q2_K", q2_K},
      {"Q3_K", 11, 256, 110, "q3_K", q3_K},
      {"Q4_K", 12, 256, 144, "q4_K", q4_K},
      {"Q5_K", 13, 256, 176, "q5_K", q5_K},
      {"Q6_K", 14, 256, 210, "q6_K", q6_K},
      {"IQ2_XXS", 16, 256, 66, "iq2_xxs", iq2_xxs},
      {"IQ2_XS", 17, 256, 74, "iq2_xs", iq2_xs},
      {"IQ3_XXS", 18, 256, 98, "iq3_xxs", iq3_xxs},
      {"IQ1_S", 19, 256, 50, "iq1_s", iq1_s},
      {"IQ4_NL", 20, 32, 18, "iq4_nl", iq4_nl},
      {"IQ3_S", 21, 256, 110, "iq3_s", iq3_s},
      {"IQ2_S", 22, 256, 82, "iq2_s", iq2_s},
      {"IQ4_XS", 23, 256, 136, "iq4_xs", iq4_xs},
      {"I8", 24, 1, 1, "i8", nullptr},
      {"I16", 25, 1, 2, "i16", nullptr},
      {"I32", 26, 1, 4, "i32", nullptr},
      {"I64", 27, 1, 8, "i64", nullptr},
      {"F64", 28, 1, 8, "f64", nullptr},
      {"IQ1_M", 29, 256, 56, "iq1_m", iq1_m},
      {"BF16", 30, 1, 2, "bf16", nullptr},
      {"TQ1_0", 34, 256, 54, "tq1_0", tq1_0},
      {"TQ2_0", 35, 256, 66, "tq2_0", tq2_0},
      {"MXFP4", 39, 32, 17, "gguf_mxfp4", mxfp4},
      {"NVFP4", 40, 64, 36, "gguf_nvfp4", nvfp4},
      {"Q1_0", 41, 128, 18, "q1_0", q1_0},
  };
  static const std::vector<FileType> all = [] {
    static std::deque<BlockLayout> layouts; // stable addresses
    std::vector<FileType> all;
    for (const Entry &entry : entries) {
      const Spec &spec = *knownSpec(entry.format);
      LayoutBuilder builder(spec);
      if (entry.build)
        entry.build(builder);
      layouts.push_back(std::move(builder.layout));
      all.push_back({entry.name, entry.id, entry.elements, entry.bytes, spec, &layouts.back()});
    }
    return all;
  }();
  return all;
}

llvm::ArrayRef<FileType> quern::format::ggufTypes() { return types(); }

static const FileType *findType(llvm::function_ref<bool(const FileType &)> matches) {
  for (const FileType &type : types())
    if (matches(type))
      return &type;
  return nullptr;
}

const FileType *quern::format::ggufType(unsigned id) {
  return findType([&](const FileType &type) { return type.id == id; });
}

const FileType *quern::format::ggufType(llvm::StringRef name) {
  return findType([&](const FileType &type) { return type.name == name; });
}

const FileType *quern::format::ggufType(const Spec &spec) {
  return findType([&](const FileType &type) { return type.spec == spec; });
}

//===----------------------------------------------------------------------===//
// Whole rows
//===----------------------------------------------------------------------===//

llvm::Expected<uint64_t> FileType::rowBytes(int64_t cols) const {
  if (cols < 0 || cols % blockElements != 0)
    return llvm::createStringError(name + ": rows of " + llvm::Twine(cols) +
                                   " elements; expected a multiple of " +
                                   llvm::Twine(blockElements));
  auto bytes = llvm::checkedMulUnsigned(uint64_t(cols) / blockElements, uint64_t(blockBytes));
  if (!bytes)
    return llvm::createStringError(name + ": rows of " + llvm::Twine(cols) + " elements");
  return *bytes;
}

/// Checks that `size` bytes are `rows` rows.
static llvm::Error checkSize(const FileType &type, uint64_t size, int64_t rows, int64_t cols) {
  llvm::Expected<uint64_t> rowBytes = type.rowBytes(cols);
  if (!rowBytes)
    return rowBytes.takeError();
  auto expected = rows < 0 ? std::nullopt : llvm::checkedMulUnsigned(uint64_t(rows), *rowBytes);
  if (!expected || *expected != size)
    return llvm::createStringError(type.name + ": " + llvm::Twine(rows) + " rows of " +
                                   llvm::Twine(cols) + " elements need " +
                                   (expected ? llvm::Twine(*expected).str() : "too many") +
                                   " bytes; found " + llvm::Twine(size));
  return llvm::Error::success();
}

llvm::Error FileType::unpack(llvm::ArrayRef<uint8_t> bytes, int64_t rows, int64_t cols,
                             Components &out) const {
  if (llvm::Error error = checkSize(*this, bytes.size(), rows, cols))
    return error;
  allocate(spec, 0, rows, cols, out);
  if (layout->fields.empty()) {
    if (!bytes.empty())
      std::memcpy(out.codes.bytes.data(), bytes.data(), bytes.size());
    return llvm::Error::success();
  }
  // Rows are whole blocks, so block b's elements lie at b x elements in every array.
  size_t blocks = bytes.size() / blockBytes;
  for (const BlockField &field : layout->fields) {
    uint8_t *to = field.stream(out).bytes.data();
    size_t step = size_t(field.elements) * field.elementBytes;
    for (size_t b = 0; b < blocks; ++b)
      field.unpack(&bytes[b * blockBytes], to + b * step);
  }
  return llvm::Error::success();
}

llvm::Error FileType::pack(const Components &components,
                           llvm::MutableArrayRef<uint8_t> bytes) const {
  if (llvm::Error error = verify(spec, components))
    return error;
  if (llvm::Error error = checkSize(*this, bytes.size(), components.rows, components.cols))
    return error;
  if (layout->fields.empty()) {
    if (!bytes.empty())
      std::memcpy(bytes.data(), components.codes.bytes.data(), bytes.size());
    return llvm::Error::success();
  }
  std::fill(bytes.begin(), bytes.end(), 0);
  size_t blocks = bytes.size() / blockBytes;
  for (const BlockField &field : layout->fields) {
    const uint8_t *from = field.stream(components).bytes.data();
    size_t step = size_t(field.elements) * field.elementBytes;
    for (size_t b = 0; b < blocks; ++b)
      field.pack(from + b * step, &bytes[b * blockBytes]);
  }
  return llvm::Error::success();
}

llvm::Error FileType::decode(llvm::ArrayRef<uint8_t> bytes, int64_t rows, int64_t cols,
                             llvm::MutableArrayRef<float> out) const {
  if (llvm::Error error = checkSize(*this, bytes.size(), rows, cols))
    return error;
  if (out.size() != uint64_t(rows) * uint64_t(cols))
    return llvm::createStringError(name + ": room for " + llvm::Twine(uint64_t(out.size())) +
                                   " values; expected " + llvm::Twine(rows) + "x" +
                                   llvm::Twine(cols));
  if (cols == 0)
    return llvm::Error::success();
  uint64_t bytesPerRow = uint64_t(cols) / blockElements * blockBytes;
  // Slices that stay in the cache.
  int64_t slice = std::max<int64_t>(1, (int64_t(1) << 15) / cols);
  Components components;
  for (int64_t row = 0; row < rows; row += slice) {
    int64_t n = std::min(slice, rows - row);
    if (llvm::Error error =
            unpack(bytes.slice(row * bytesPerRow, n * bytesPerRow), n, cols, components))
      return error;
    if (llvm::Error error = format::decode(spec, components, out.slice(row * cols, n * cols)))
      return error;
  }
  return llvm::Error::success();
}
