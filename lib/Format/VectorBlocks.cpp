//===- VectorBlocks.cpp - GGUF's blocks whose codes are indices of vectors ===//
//
// Where each bit lies, as published in the file format: codebook index, signs, shift.
//
//===----------------------------------------------------------------------===//
#include "LayoutBuilder.h"

using namespace quern::format;
using Target = BlockField::Target;

void block::iq2_xxs(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 8, [](BlockField &f, unsigned g) { f.add(g, 16 + 64 * g + 60, 4); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) {
    unsigned group = 16 + 64 * (j / 4);
    f.add(j, group + 8 * (j % 4), 8);
    f.add(j, group + 32 + 7 * (j % 4), 7);
  });
}

void block::iq2_xs(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * 66 + 4 * j, 4); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) { f.add(j, 16 + 16 * j, 16); });
}

void block::iq2_s(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * 74 + 4 * j, 4); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) {
    f.add(j, 8 * (2 + j), 8);
    f.add(j, 8 * 66 + 2 * j, 2);
    f.add(j, 8 * (34 + j), 8);
  });
}

void block::iq3_xxs(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 8, [](BlockField &f, unsigned g) { f.add(g, 8 * 66 + 32 * g + 28, 4); });
  b.field(Target::Codes, 32, [](BlockField &f, unsigned j) {
    f.add(j, 16 + 16 * j, 16);
    f.add(j, 8 * 66 + 32 * (j / 4) + 7 * (j % 4), 7);
  });
}

void block::iq3_s(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Scale1, 8, [](BlockField &f, unsigned j) { f.add(j, 8 * 106 + 4 * j, 4); });
  b.field(Target::Codes, 64, [](BlockField &f, unsigned j) {
    f.add(j, 8 * (2 + j), 8);
    f.add(j, 8 * 66 + j, 1);
    f.add(j, 8 * 74 + 4 * j, 4);
  });
}

void block::iq1_s(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  auto high = [](unsigned group) { return 8 * 34 + 16 * group; };
  b.field(Target::Scale1, 8, [&](BlockField &f, unsigned g) { f.add(g, high(g) + 12, 3); });
  b.field(Target::Zero0, 8, [&](BlockField &f, unsigned g) { f.add(g, high(g) + 15, 1); });
  b.field(Target::Codes, 32, [&](BlockField &f, unsigned j) {
    f.add(j, 8 * (2 + j), 8);
    f.add(j, high(j / 4) + 3 * (j % 4), 3);
  });
}

void block::iq1_m(LayoutBuilder &b) {
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
