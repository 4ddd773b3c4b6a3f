//===- PayloadWriter.cpp - Streams a payload ------------------------------===//
//
// The writing half of runtime/Payload.h; hashes are taken as bytes pass.
//
//===----------------------------------------------------------------------===//
#include "quern/Emit/PayloadWriter.h"
#include "quern/Emit/Lzma.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;

namespace quern::emit {

Error PayloadWriter::copyImage(StringRef path) {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  os << (*buffer)->getBuffer();
  return Error::success();
}

void PayloadWriter::begin(runtime::PayloadSection kind) {
  assert((!current || *current < kind) && "sections come in order");
  endSection();
  current = kind;
  if (kind == runtime::WeightSection) {
    os.write_zeros(offsetToAlignment(os.tell(), Align(runtime::payloadAlignment)));
    footer.sections[kind].offset = os.tell();
  } else {
    rest.resize(alignTo(rest.size(), runtime::payloadAlignment));
    footer.sections[kind].offset = rest.size();
  }
}

uint64_t PayloadWriter::position() const {
  uint64_t at = *current == runtime::WeightSection ? os.tell() : rest.size();
  return at - footer.sections[*current].offset;
}

void PayloadWriter::endSection() {
  if (current)
    footer.sections[*current].size = position();
  current.reset();
}

void PayloadWriter::write(ArrayRef<uint8_t> bytes) {
  if (*current == runtime::WeightSection) {
    weights.update(bytes.data(), bytes.size());
    os << toStringRef(bytes);
  } else {
    contents.update(bytes.data(), bytes.size());
    rest.insert(rest.end(), bytes.begin(), bytes.end());
  }
}

void PayloadWriter::padTo(uint64_t target) {
  static const uint8_t zeros[4096] = {};
  assert(target >= position() && "cannot pad backwards");
  while (uint64_t missing = target - position())
    write(ArrayRef(zeros, std::min<uint64_t>(missing, sizeof zeros)));
}

void PayloadWriter::setWeightsBeside(uint64_t hash) { besideHash = hash; }

/// The sections after the weights, packed or as they are.
Error PayloadWriter::writeContents() {
  if (rest.empty())
    return Error::success();
  if (rest.size() <= runtime::payloadMostPacked) {
    auto packed = encodeLzma(rest);
    if (!packed)
      return packed.takeError();
    if (packed->size() < rest.size()) {
      footer.packedOffset = os.tell();
      footer.packedSize = packed->size();
      os << toStringRef(ArrayRef(*packed));
      return Error::success();
    }
  }
  os.write_zeros(offsetToAlignment(os.tell(), Align(runtime::payloadAlignment)));
  for (unsigned kind = runtime::TokenizerSection; kind < runtime::PayloadSectionCount; ++kind)
    footer.sections[kind].offset += os.tell();
  os << toStringRef(ArrayRef(rest));
  return Error::success();
}

Error PayloadWriter::finish() {
  endSection();
  if (Error e = writeContents())
    return e;
  os.write_zeros(offsetToAlignment(os.tell(), Align(8)));
  memcpy(footer.magic, runtime::payloadMagic, sizeof footer.magic);
  footer.version = runtime::payloadVersion;
  footer.flags = besideHash ? runtime::payloadWeightsBeside : 0;
  footer.fileSize = os.tell() + sizeof footer;
  footer.weightsHash = besideHash ? *besideHash : weights.finish();
  footer.contentsHash = contents.finish();
  runtime::Hash64 hash;
  hash.update(&footer, offsetof(runtime::PayloadFooter, footerHash));
  footer.footerHash = hash.finish();
  os.write(reinterpret_cast<const char *>(&footer), sizeof footer);
  return file.keep();
}

} // namespace quern::emit
