//===- PayloadWriter.cpp - Streams a payload ------------------------------===//
//
// The writing half of runtime/Payload.h; hashes are taken as bytes pass.
//
//===----------------------------------------------------------------------===//
#include "quern/Emit/PayloadWriter.h"
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
  uint64_t alignment =
      kind == runtime::WeightSection ? runtime::payloadAlignment : runtime::sectionAlignment;
  os.write_zeros(offsetToAlignment(os.tell(), Align(alignment)));
  footer.sections[kind].offset = os.tell();
}

void PayloadWriter::endSection() {
  if (current)
    footer.sections[*current].size = os.tell() - footer.sections[*current].offset;
  current.reset();
}

uint64_t PayloadWriter::position() const { return os.tell() - footer.sections[*current].offset; }

void PayloadWriter::write(ArrayRef<uint8_t> bytes) {
  (*current == runtime::WeightSection ? weights : contents).update(bytes.data(), bytes.size());
  os << toStringRef(bytes);
}

void PayloadWriter::padTo(uint64_t target) {
  static const uint8_t zeros[4096] = {};
  assert(target >= position() && "cannot pad backwards");
  while (uint64_t missing = target - position())
    write(ArrayRef(zeros, std::min<uint64_t>(missing, sizeof zeros)));
}

void PayloadWriter::setWeightsBeside(uint64_t hash) { besideHash = hash; }

Error PayloadWriter::finish() {
  endSection();
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
