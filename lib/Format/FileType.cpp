//===- FileType.cpp - GGUF's tensor types ---------------------------------===//
//
// The table of types: numbers, block sizes, formats.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/FileType.h"
#include "LayoutBuilder.h"
#include "quern/Format/Known.h"
#include <deque>

using namespace quern::format;

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
      {"Q4_0", 2, 32, 18, "q4_0", block::q4_0},
      {"Q4_1", 3, 32, 20, "q4_1", block::q4_1},
      {"Q5_0", 6, 32, 22, "q5_0", block::q5_0},
      {"Q5_1", 7, 32, 24, "q5_1", block::q5_1},
      {"Q8_0", 8, 32, 34, "q8_0", block::q8_0},
      {"Q2_K", 10, 256, 84, "q2_K", block::q2_K},
      {"Q3_K", 11, 256, 110, "q3_K", block::q3_K},
      {"Q4_K", 12, 256, 144, "q4_K", block::q4_K},
      {"Q5_K", 13, 256, 176, "q5_K", block::q5_K},
      {"Q6_K", 14, 256, 210, "q6_K", block::q6_K},
      {"IQ2_XXS", 16, 256, 66, "iq2_xxs", block::iq2_xxs},
      {"IQ2_XS", 17, 256, 74, "iq2_xs", block::iq2_xs},
      {"IQ3_XXS", 18, 256, 98, "iq3_xxs", block::iq3_xxs},
      {"IQ1_S", 19, 256, 50, "iq1_s", block::iq1_s},
      {"IQ4_NL", 20, 32, 18, "iq4_nl", block::iq4_nl},
      {"IQ3_S", 21, 256, 110, "iq3_s", block::iq3_s},
      {"IQ2_S", 22, 256, 82, "iq2_s", block::iq2_s},
      {"IQ4_XS", 23, 256, 136, "iq4_xs", block::iq4_xs},
      {"I8", 24, 1, 1, "i8", nullptr},
      {"I16", 25, 1, 2, "i16", nullptr},
      {"I32", 26, 1, 4, "i32", nullptr},
      {"I64", 27, 1, 8, "i64", nullptr},
      {"F64", 28, 1, 8, "f64", nullptr},
      {"IQ1_M", 29, 256, 56, "iq1_m", block::iq1_m},
      {"BF16", 30, 1, 2, "bf16", nullptr},
      {"TQ1_0", 34, 256, 54, "tq1_0", block::tq1_0},
      {"TQ2_0", 35, 256, 66, "tq2_0", block::tq2_0},
      {"MXFP4", 39, 32, 17, "gguf_mxfp4", block::mxfp4},
      {"NVFP4", 40, 64, 36, "gguf_nvfp4", block::nvfp4},
      {"Q1_0", 41, 128, 18, "q1_0", block::q1_0},
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
