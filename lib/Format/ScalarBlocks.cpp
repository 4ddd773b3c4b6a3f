//===- ScalarBlocks.cpp - GGUF's blocks with a code for each value --------===//
//
// Where each bit lies, as published in the file format.
//
//===----------------------------------------------------------------------===//
#include "LayoutBuilder.h"

using namespace quern::format;
using Target = BlockField::Target;

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

void block::q4_0(LayoutBuilder &b) { b.single(Target::Scale0, 0).strided(32, 2, 4, 16, 8); }

void block::q4_1(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).single(Target::Offset0, 2).strided(32, 4, 4, 16);
}

static auto fiveBits(unsigned high, unsigned low) {
  return [high, low](BlockField &f, unsigned e) {
    LayoutBuilder::addStrided(f, e, low, 4, 16);
    f.add(e, 8 * high + e, 1);
  };
}

void block::q5_0(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).field(Target::Codes, 32, fiveBits(2, 6), 16);
}

void block::q5_1(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).single(Target::Offset0, 2);
  b.field(Target::Codes, 32, fiveBits(4, 8));
}

void block::q8_0(LayoutBuilder &b) { b.single(Target::Scale0, 0).strided(32, 2, 8, 32); }

void block::q2_K(LayoutBuilder &b) {
  b.single(Target::Scale0, 80).single(Target::Offset0, 82);
  b.field(Target::Scale1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * j, 4); });
  b.field(Target::Offset1, 16, [](BlockField &f, unsigned j) { f.add(j, 8 * j + 4, 4); });
  b.strided(256, 16, 2, 32);
}

void block::q3_K(LayoutBuilder &b) {
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

void block::q4_K(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).single(Target::Offset0, 2);
  addKScales(b, 4);
  b.strided(256, 16, 4, 32);
}

void block::q5_K(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).single(Target::Offset0, 2);
  addKScales(b, 4);
  b.field(Target::Codes, 256, [](BlockField &f, unsigned e) {
    LayoutBuilder::addStrided(f, e, 48, 4, 32);
    f.add(e, 8 * (16 + e % 32) + e / 32, 1);
  });
}

void block::q6_K(LayoutBuilder &b) {
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

void block::iq4_nl(LayoutBuilder &b) { b.single(Target::Scale0, 0).strided(32, 2, 4, 16); }

void block::iq4_xs(LayoutBuilder &b) {
  b.single(Target::Scale0, 0).strided(256, 8, 4, 16);
  b.field(
      Target::Scale1, 8,
      [](BlockField &f, unsigned j) {
        f.add(j, 8 * 4 + 4 * j, 4);
        f.add(j, 8 * 2 + 2 * j, 2);
      },
      32);
}

void block::tq1_0(LayoutBuilder &b) {
  b.single(Target::Scale0, 52);
  b.field(Target::Codes, 0, [](BlockField &, unsigned) {});
  BlockField &codes = b.layout.fields.back();
  codes.elements = 256;
  codes.trits = {{0, 0, 32, 5}, {32, 160, 16, 5}, {48, 240, 4, 4}};
}

void block::tq2_0(LayoutBuilder &b) { b.single(Target::Scale0, 64).strided(256, 0, 2, 32); }

void block::q1_0(LayoutBuilder &b) {
  b.single(Target::Scale0, 0);
  b.field(Target::Codes, 128, [](BlockField &f, unsigned e) { f.add(e, 16 + e, 1); });
}

void block::mxfp4(LayoutBuilder &b) { b.single(Target::Scale0, 0).strided(32, 1, 4, 16); }

void block::nvfp4(LayoutBuilder &b) {
  b.field(Target::Scale0, 4, [](BlockField &f, unsigned j) { f.add(j, 8 * j, 8); });
  b.strided(64, 4, 4, 8);
}
