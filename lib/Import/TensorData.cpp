//===- TensorData.cpp - Reads and maps tensor bytes -----------------------===//
//
// Range by range, so that memory stays bounded by one tensor.
//
//===----------------------------------------------------------------------===//
#include "Common.h"
#include "quern/Format/Matrix.h"
#include "quern/Import/ModelFile.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Process.h"

using namespace llvm;

namespace quern::import {

static Error tensorError(const ModelFile &model, const TensorInfo &info, const Segment &segment,
                         const Twine &what) {
  StringRef path = segment.file < model.files.size() ? StringRef(model.files[segment.file].path)
                                                     : StringRef(model.path);
  return fileError(path, "tensor '" + info.name + "': " + what);
}

Error readTensor(const ModelFile &model, const TensorInfo &info, std::vector<uint8_t> &out) {
  out.resize(info.size);
  uint64_t done = 0;
  sys::fs::file_t handle = sys::fs::kInvalidFile;
  unsigned opened = ~0u;
  scope_exit close([&] {
    if (handle != sys::fs::kInvalidFile)
      sys::fs::closeFile(handle);
  });
  for (const Segment &segment : info.segments()) {
    if (segment.file >= model.files.size() || segment.size > info.size - done)
      return tensorError(model, info, segment, "its pieces do not fit its size");
    if (segment.file != opened) {
      if (handle != sys::fs::kInvalidFile)
        sys::fs::closeFile(handle);
      handle = sys::fs::kInvalidFile;
      Expected<sys::fs::file_t> file =
          sys::fs::openNativeFileForRead(model.files[segment.file].path);
      if (!file)
        return tensorError(model, info, segment, toString(file.takeError()));
      handle = *file;
      opened = segment.file;
    }
    // Linux reads at most 2 GiB at a time, so a short read is not yet the end of the file.
    for (uint64_t at = 0; at < segment.size;) {
      Expected<size_t> got = sys::fs::readNativeFileSlice(
          handle,
          MutableArrayRef<char>(reinterpret_cast<char *>(out.data()) + done + at,
                                segment.size - at),
          segment.offset + at);
      if (!got)
        return tensorError(model, info, segment, toString(got.takeError()));
      if (*got == 0)
        return tensorError(model, info, segment,
                           "the file ends " + Twine(segment.size - at) +
                               " bytes early; it has changed since it was opened");
      at += *got;
    }
    done += segment.size;
  }
  if (done != info.size)
    return tensorError(model, info, {},
                       "its pieces have " + Twine(done) + " bytes of " + Twine(info.size));
  return Error::success();
}

Expected<TensorBytes> mapTensor(const ModelFile &model, const TensorInfo &info) {
  TensorBytes result;
  std::vector<Segment> segments = info.segments();
  if (info.size == 0)
    return result;
  if (segments.size() > 1) {
    auto copy = std::make_shared<std::vector<uint8_t>>();
    if (Error e = readTensor(model, info, *copy))
      return std::move(e);
    result.view = *copy;
    result.owner = std::move(copy);
    return result;
  }
  const Segment &segment = segments.front();
  if (segment.file >= model.files.size())
    return tensorError(model, info, segment, "it lies in no file of the model");
  Expected<sys::fs::file_t> file = sys::fs::openNativeFileForRead(model.files[segment.file].path);
  if (!file)
    return tensorError(model, info, segment, toString(file.takeError()));
  scope_exit close([&] { sys::fs::closeFile(*file); });
  // Touching a page beyond the end would be a fatal signal: look again at the size.
  sys::fs::file_status status;
  if (std::error_code code = sys::fs::status(*file, status))
    return tensorError(model, info, segment, code.message());
  if (segment.offset > status.getSize() || segment.size > status.getSize() - segment.offset)
    return tensorError(model, info, segment,
                       "the file ends before it; it has changed since it was opened");
  uint64_t page = sys::Process::getPageSizeEstimate();
  uint64_t begin = segment.offset / page * page;
  std::error_code code;
  auto region = std::make_shared<sys::fs::mapped_file_region>(
      *file, sys::fs::mapped_file_region::readonly, size_t(segment.offset - begin + segment.size),
      begin, code);
  if (code)
    return tensorError(model, info, segment, "cannot map it: " + code.message());
  result.view = ArrayRef<uint8_t>(reinterpret_cast<const uint8_t *>(region->const_data()) +
                                      (segment.offset - begin),
                                  segment.size);
  result.owner = std::move(region);
  return result;
}

Error decodeRows(const TensorInfo &info, ArrayRef<uint8_t> bytes, int64_t rows, int64_t cols,
                 MutableArrayRef<float> out) {
  if (const format::FileType *type = format::ggufType(info.fileType))
    return type->decode(bytes, rows, cols, out);
  return format::decodeMatrix(info.spec, bytes, rows, cols, out);
}

} // namespace quern::import
