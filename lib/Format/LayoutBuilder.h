//===- LayoutBuilder.h - Spells out the layouts of GGUF's blocks -*- C++ -*-===//
//
// A BlockLayout field by field. Each block type is one function, declared at the end.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_FORMAT_LAYOUTBUILDER_H
#define QUERN_LIB_FORMAT_LAYOUTBUILDER_H

#include "BlockLayout.h"
#include "llvm/Support/ErrorHandling.h"

namespace quern::format {

/// Builds a BlockLayout field by field. Positions are bits, LSB first, from the block's start.
class LayoutBuilder {
public:
  explicit LayoutBuilder(const Spec &spec) : spec(spec) {}

  /// `elements` elements, each placed by place(field, element).
  template <typename Place>
  LayoutBuilder &field(BlockField::Target target, unsigned elements, Place place,
                       unsigned excess = 0) {
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
  LayoutBuilder &single(BlockField::Target target, unsigned byte) {
    return field(target, 1, [&](BlockField &f, unsigned) { f.add(0, 8 * byte, bitsOf(target)); });
  }

  /// Codes of `width` bits in bytes that each hold codes i, i + stride, i + 2 stride...: the
  /// element of each `stride x 8/width` lies in `stride` bytes from `byte` on.
  LayoutBuilder &strided(unsigned elements, unsigned byte, unsigned width, unsigned stride,
                         unsigned excess = 0) {
    return field(
        BlockField::Target::Codes, elements,
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
  unsigned bitsOf(BlockField::Target target) const {
    switch (target) {
    case BlockField::Target::Codes:
      return spec.code.bitsPerIndex();
    case BlockField::Target::Scale0:
      return spec.scale[0].number.bits;
    case BlockField::Target::Scale1:
      return spec.scale[1].number.bits;
    case BlockField::Target::Offset0:
      return spec.offset[0].number.bits;
    case BlockField::Target::Offset1:
      return spec.offset[1].number.bits;
    case BlockField::Target::Zero0:
      return spec.zero[0].number.bits;
    }
    llvm_unreachable("unknown target");
  }

  const Spec &spec;
};

/// The block types, by the names of their formats.
namespace block {
void q4_0(LayoutBuilder &b);
void q4_1(LayoutBuilder &b);
void q5_0(LayoutBuilder &b);
void q5_1(LayoutBuilder &b);
void q8_0(LayoutBuilder &b);
void q2_K(LayoutBuilder &b);
void q3_K(LayoutBuilder &b);
void q4_K(LayoutBuilder &b);
void q5_K(LayoutBuilder &b);
void q6_K(LayoutBuilder &b);
void iq4_nl(LayoutBuilder &b);
void iq4_xs(LayoutBuilder &b);
void tq1_0(LayoutBuilder &b);
void tq2_0(LayoutBuilder &b);
void q1_0(LayoutBuilder &b);
void mxfp4(LayoutBuilder &b);
void nvfp4(LayoutBuilder &b);
void iq2_xxs(LayoutBuilder &b);
void iq2_xs(LayoutBuilder &b);
void iq2_s(LayoutBuilder &b);
void iq3_xxs(LayoutBuilder &b);
void iq3_s(LayoutBuilder &b);
void iq1_s(LayoutBuilder &b);
void iq1_m(LayoutBuilder &b);
} // namespace block

} // namespace quern::format

#endif // QUERN_LIB_FORMAT_LAYOUTBUILDER_H
