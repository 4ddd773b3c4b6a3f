//===- WeightData.cpp - Reads the data behind quern.weight ----------------===//
//
// Plain reads at offsets, not a mapping: what was read is not kept in memory.
//
//===----------------------------------------------------------------------===//
#include "quern/Pipeline/WeightData.h"
#include "quern/Format/Encode.h"
#include "quern/Format/FileType.h"
#include "quern/Format/Size.h"
#include "llvm/Support/FileSystem.h"
#include <numeric>
#include <unistd.h>

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

MatrixShape MatrixShape::of(RankedTensorType type) {
  MatrixShape s;
  int64_t rank = type.getRank();
  if (rank > 0)
    s.cols = type.getDimSize(rank - 1);
  if (rank > 1)
    s.rows = type.getDimSize(rank - 2);
  for (int64_t i = 0; i + 2 < rank; ++i)
    s.matrices *= type.getDimSize(i);
  return s;
}

WeightData::~WeightData() {
  for (auto &entry : descriptors)
    ::close(entry.second);
}

Expected<int> WeightData::open(FileOp file) {
  std::lock_guard<std::mutex> lock(mutex);
  StringRef path = file.getPath();
  if (auto known = descriptors.find(path); known != descriptors.end())
    return known->second;
  int fd;
  if (std::error_code ec = llvm::sys::fs::openFileForRead(path, fd))
    return createStringError("cannot open '" + path + "': " + ec.message());
  llvm::sys::fs::file_status status;
  std::error_code ec = llvm::sys::fs::status(fd, status);
  if (ec || status.getSize() != uint64_t(file.getSize())) {
    ::close(fd);
    return createStringError("'" + path + "' has changed: expected " + Twine(file.getSize()) +
                             " bytes, found " + Twine(ec ? 0 : status.getSize()));
  }
  descriptors[path] = fd;
  return fd;
}

Error WeightData::readBytes(WeightOp weight, uint64_t offset, MutableArrayRef<uint8_t> out) {
  uint64_t begin = 0; // of the component, in the run of all of them
  for (auto part : weight.getComponents()->getAsRange<ComponentAttr>()) {
    uint64_t end = begin + part.getSize();
    if (offset < end && !out.empty()) {
      auto file = symbols.lookup<FileOp>(part.getFile().getValue());
      Expected<int> fd = open(file);
      if (!fd)
        return fd.takeError();
      uint64_t count = std::min<uint64_t>(out.size(), end - offset);
      uint64_t at = part.getOffset() + (offset - begin);
      for (uint64_t done = 0; done < count;) {
        ssize_t n = ::pread(*fd, out.data() + done, count - done, off_t(at + done));
        if (n < 0 && errno == EINTR)
          continue;
        if (n <= 0)
          return createStringError("cannot read '" + file.getPath() + "' at " + Twine(at + done) +
                                   ": " + (n < 0 ? strerror(errno) : "unexpected end"));
        done += uint64_t(n);
      }
      out = out.drop_front(count);
      offset += count;
    }
    begin = end;
  }
  if (!out.empty())
    return createStringError("weight '" + weight.getSymName() + "': its components end at byte " +
                             Twine(begin) + ", " + Twine(out.size()) + " more are needed");
  return Error::success();
}

/// The rows of every component's array; the arrays of a matrix follow one another in its data.
Error WeightData::readCanonical(WeightOp weight, ArrayRef<format::ComponentInfo> infos,
                                int64_t matrix, int64_t firstRow, int64_t rows,
                                format::Components &out) {
  MatrixShape shape = MatrixShape::of(weight.getTensorType());
  format::Spec spec = getFormat(weight.getTensorType());
  uint64_t whole = 0;
  for (const format::ComponentInfo &info : infos)
    whole += info.size();
  uint64_t offset = uint64_t(matrix) * whole;
  std::vector<std::vector<uint8_t>> arrays;
  for (const format::ComponentInfo &info : infos) {
    // A row of parameters stands for `tile` rows of the matrix; what is read are whole ones.
    int64_t tile = info.rows > 0 ? llvm::divideCeil(shape.rows, info.rows) : 1;
    int64_t begin = info.role == format::Role::Table ? 0 : firstRow / tile;
    int64_t end = info.role == format::Role::Table
                      ? info.rows
                      : std::min<int64_t>(info.rows, llvm::divideCeil(firstRow + rows, tile));
    std::vector<uint8_t> &bytes = arrays.emplace_back(uint64_t(end - begin) * info.bytesPerRow);
    if (Error e = readBytes(weight, offset + uint64_t(begin) * info.bytesPerRow, bytes))
      return e;
    offset += info.size();
  }
  std::vector<ArrayRef<uint8_t>> views(arrays.begin(), arrays.end());
  if (Error e = format::unpackCanonical(spec, views, firstRow, rows, shape.cols, out))
    return createStringError("weight '" + weight.getSymName() +
                             "': " + llvm::toString(std::move(e)));
  out.firstRow = firstRow;
  return Error::success();
}

/// A sum or a split, whose rows lie apart.
Error WeightData::readWhole(WeightOp weight, int64_t matrix, format::Components &out) {
  MatrixShape shape = MatrixShape::of(weight.getTensorType());
  uint64_t all = 0;
  for (auto part : weight.getComponents()->getAsRange<ComponentAttr>())
    all += part.getSize();
  std::vector<uint8_t> bytes(all / uint64_t(shape.matrices));
  if (Error e = readBytes(weight, uint64_t(matrix) * bytes.size(), bytes))
    return e;
  if (Error e = format::unpackWhole(getFormat(weight.getTensorType()), bytes, shape.rows,
                                    shape.cols, out))
    return createStringError("weight '" + weight.getSymName() +
                             "': " + llvm::toString(std::move(e)));
  return Error::success();
}

Error WeightData::readStored(WeightOp weight, int64_t matrix, int64_t firstRow, int64_t rows,
                             format::Components &out) {
  MatrixShape shape = MatrixShape::of(weight.getTensorType());
  format::Spec spec = getFormat(weight.getTensorType());
  auto named = [&](Error e) {
    return createStringError("weight '" + weight.getSymName() +
                             "': " + llvm::toString(std::move(e)));
  };
  uint64_t rowBytes;
  const format::FileType *type = nullptr;
  if (spec.kind != format::Spec::Kind::Base && weight.getLayout()->getKind() == LayoutKind::Canonical)
    return readWhole(weight, matrix, out);
  if (weight.getLayout()->getKind() == LayoutKind::GGUF) {
    type = format::ggufType(spec);
    if (!type)
      return named(createStringError("no GGUF type stores '" + format::print(spec) + "'"));
    Expected<uint64_t> bytes = type->rowBytes(shape.cols);
    if (!bytes)
      return named(bytes.takeError());
    rowBytes = *bytes;
  } else {
    auto components = format::canonicalComponents(spec, shape.rows, shape.cols);
    if (components.empty() || weight.getLayout()->getKind() != LayoutKind::Canonical)
      return named(
          createStringError("cannot read format '" + format::print(spec) + "' from this layout"));
    int64_t parts = int64_t(weight.getComponents()->size());
    if (components.size() > 1 && parts > 1 && parts != shape.matrices)
      return named(createStringError("expected the arrays of format '" + format::print(spec) +
                                     "' one after another, as one component or one a matrix"));
    if (components.size() > 1)
      return readCanonical(weight, components, matrix, firstRow, rows, out);
    rowBytes = components[0].bytesPerRow;
  }
  std::vector<uint8_t> bytes(uint64_t(rows) * rowBytes);
  if (Error e = readBytes(weight, uint64_t(matrix * shape.rows + firstRow) * rowBytes, bytes))
    return e;
  Error e = type ? type->unpack(bytes, rows, shape.cols, out)
                 : format::unpackCanonical(spec, {ArrayRef<uint8_t>(bytes)}, firstRow, rows,
                                           shape.cols, out);
  if (e)
    return named(std::move(e));
  out.firstRow = firstRow;
  return Error::success();
}

/// Rows that are encoded together: those of a tile, or all of them.
static int64_t granuleOf(const format::Spec &spec, int64_t rows) {
  if (spec.kind != format::Spec::Kind::Base ||
      (spec.code.kind == format::Code::Kind::Table && spec.code.table.isLearned()))
    return rows;
  int64_t granule = 1;
  for (auto *levels : {&spec.scale, &spec.offset, &spec.zero})
    for (const format::Level &level : *levels)
      granule = std::lcm(granule, level.tile.rows == 0 ? rows : level.tile.rows);
  return std::min(granule, rows);
}

int64_t WeightData::rowGranule(WeightOp weight) {
  MatrixShape shape = MatrixShape::of(weight.getTensorType());
  return granuleOf(getFormat(weight.getTensorType()), std::max<int64_t>(shape.rows, 1));
}

Error WeightData::read(WeightOp weight, int64_t matrix, int64_t firstRow, int64_t rows,
                       format::Components &out) {
  auto from = weight->getAttrOfType<FlatSymbolRefAttr>(QuernDialect::kEncodedFromAttr);
  if (!from) {
    if (!weight.getComponents())
      return createStringError("weight '" + weight.getSymName() + "' has no data");
    return readStored(weight, matrix, firstRow, rows, out);
  }
  auto source = symbols.lookup<WeightOp>(from.getValue());
  if (!source || !source.getComponents())
    return createStringError("weight '" + weight.getSymName() + "' is encoded from '" +
                             from.getValue() + "', which has no data");
  format::Components stored;
  if (Error e = readStored(source, matrix, firstRow, rows, stored))
    return e;
  std::vector<float> values(size_t(rows) * size_t(stored.cols));
  if (Error e = format::decode(getFormat(source.getTensorType()), stored, values))
    return e;
  auto leading = weight->getAttrOfType<DenseI32ArrayAttr>(kSplitColumnsAttr);
  Error wrong = format::encode(getFormat(weight.getTensorType()), values, rows, stored.cols, out,
                               weight.getSymName(), firstRow,
                               leading ? leading.asArrayRef() : ArrayRef<int32_t>());
  if (!wrong)
    return Error::success();
  // The message names the tensor; the first of its files is enough to find it.
  auto part = cast<ComponentAttr>(source.getComponents()->getValue().front());
  return createStringError(symbols.lookup<FileOp>(part.getFile().getValue()).getPath() + ": " +
                           llvm::toString(std::move(wrong)));
}
