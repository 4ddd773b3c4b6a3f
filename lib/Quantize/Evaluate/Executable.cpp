//===- Executable.cpp - A finished program under evaluation ---------------===//
//
// Windows of tokens go to the program as a baseline without rows; what it predicts comes back as
// a baseline. See lib/Runtime/Program/CliEvaluate.cpp for the file.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Executable.h"
#include "quern/Format/FileType.h"
#include "quern/Format/Known.h"
#include "quern/Format/PackedLayout.h"
#include "quern/Import/Inspect.h"
#include "quern/Import/ModelConfig.h"
#include "quern/Import/ModelFile.h"
#include "quern/Import/Parsers.h"
#include "quern/Runtime/Payload.h"
#include "quern/Runtime/Tokenizer.h"
#include "quern/Support/Json.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"

using namespace quern;
using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

namespace {
/// As in lib/Runtime/Program/CliEvaluate.cpp.
struct BaselineHeader {
  char magic[8] = {'Q', 'U', 'E', 'R', 'N', 'L', 'P', '1'};
  uint32_t vocabulary, window, prefix, reserved = 0;
  uint64_t windows = 1;
};

/// A temporary file that goes when this does.
struct Temporary {
  llvm::SmallString<128> path;
  Error create() {
    if (std::error_code ec = llvm::sys::fs::createTemporaryFile("quern-evaluate", "", path))
      return createStringError("cannot create a temporary file: " + ec.message());
    return Error::success();
  }
  ~Temporary() {
    if (!path.empty())
      llvm::sys::fs::remove(path);
  }
};

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  format::Spec spec;
  bool panels = false;
  ArrayRef<uint8_t> bytes;
  int64_t columns() const { return shape.back(); }
  int64_t rows() const { return shape.size() > 1 ? shape[shape.size() - 2] : 1; }
};
} // namespace

Executable::Executable() = default;
Executable::~Executable() = default;

Expected<std::unique_ptr<Executable>> Executable::open(StringRef path, unsigned threads) {
  std::unique_ptr<Executable> out(new Executable);
  llvm::SmallString<256> absolute(path);
  llvm::sys::fs::make_absolute(absolute);
  out->path = absolute.str().str();
  out->threads = threads;
  out->payload = std::make_unique<runtime::Payload>();
  if (runtime::Status s = runtime::Payload::open(out->path, "", *out->payload); s.failed())
    return createStringError(s.message);
  Expected<json::Value> read = parseJson(out->payload->metadata(), path);
  if (!read)
    return read.takeError();
  if (json::Object *object = read->getAsObject())
    out->metadata = std::move(*object);
  out->positions = integerOf(out->metadata, "context").value_or(0);
  if (const json::Array *tensors = out->metadata.getArray("tensors"))
    for (const json::Value &value : *tensors)
      if (const json::Object *tensor = value.getAsObject()) {
        StringRef name = tensor->getString("name").value_or("");
        const json::Array *shape = tensor->getArray("shape");
        if (shape && !shape->empty() && (name == "token_embd.weight" || name == "output.weight"))
          out->vocabularySize = integerOf(&(*shape)[0]).value_or(0);
      }
  auto blob = out->payload->section(runtime::TokenizerSection);
  std::string error;
  if (!blob.empty())
    out->tokenizer = runtime::Tokenizer::load(blob.data(), blob.size(), error);
  if (!out->tokenizer)
    return createStringError(path + ": " +
                             (error.empty() ? "the program has no tokenizer" : error));
  if (out->positions < 2 || out->vocabularySize < 1)
    return createStringError(path + ": its metadata name no context or no embedding");
  return out;
}

Expected<std::vector<int32_t>> Executable::tokenize(StringRef text) {
  std::string error;
  std::vector<int32_t> ids = tokenizer->encode({text.data(), text.size()}, false, &error);
  if (!error.empty())
    return createStringError(path + ": " + error);
  return ids;
}

Expected<std::vector<int32_t>> Executable::prefix() { return tokenizer->prefix(); }

Error Executable::run(ArrayRef<int32_t> tokens, std::vector<float> &logits) {
  size_t bos = tokenizer->prefix().size(), vocabulary = size_t(vocabularySize);
  if (tokens.size() <= bos)
    return createStringError("no tokens to run");
  std::vector<int32_t> window(tokens.begin() + long(bos), tokens.end());
  window.push_back(0); // only predicted
  BaselineHeader header;
  header.vocabulary = uint32_t(vocabulary);
  header.window = uint32_t(window.size());
  header.prefix = uint32_t(bos);
  Temporary in, out, messages;
  for (Temporary *file : {&in, &out, &messages})
    if (Error e = file->create())
      return e;
  {
    std::error_code ec;
    llvm::raw_fd_ostream os(in.path, ec);
    os.write(reinterpret_cast<const char *>(&header), sizeof(header));
    os.write(reinterpret_cast<const char *>(window.data()), window.size() * sizeof(int32_t));
    os.close();
    if (os.has_error())
      return createStringError("cannot write '" + in.path + "': " + os.error().message());
  }
  std::string count = std::to_string(threads);
  std::vector<StringRef> arguments = {path,     "--perplexity", in.path, "--save-logits",
                                      out.path, "--force"};
  if (threads)
    arguments.insert(arguments.end(), {"--threads", count});
  std::optional<StringRef> redirects[] = {StringRef(""), StringRef(""), messages.path.str()};
  std::string failure;
  int status = llvm::sys::ExecuteAndWait(path, arguments, std::nullopt, redirects, 0, 0, &failure);
  if (status) {
    auto text = llvm::MemoryBuffer::getFile(messages.path);
    return createStringError(
        "'" + path + "' failed: " +
        (text && !(*text)->getBuffer().empty() ? (*text)->getBuffer().trim() : StringRef(failure)));
  }
  auto file = llvm::MemoryBuffer::getFile(out.path, false, false);
  size_t rows = window.size() - 1, rowBytes = 2 * sizeof(float) + 2 * vocabulary;
  size_t start = sizeof(header) + window.size() * sizeof(int32_t);
  if (!file || (*file)->getBufferSize() != start + rows * rowBytes)
    return createStringError("'" + path + "' wrote no logits of " + llvm::Twine(rows) +
                             " positions; was it compiled by this version?");
  logits.assign((bos + rows) * vocabulary, 0);
  const char *at = (*file)->getBufferStart() + start;
  std::vector<uint16_t> codes(vocabulary);
  for (size_t r = 0; r < rows; ++r, at += rowBytes) {
    float range[2]; // least, step
    memcpy(range, at, sizeof(range));
    memcpy(codes.data(), at + sizeof(range), 2 * vocabulary);
    for (size_t i = 0; i < vocabulary; ++i)
      logits[(bos + r) * vocabulary + i] = range[0] + range[1] * float(codes[i]);
  }
  return Error::success();
}

/// The tensors of a payload in the order they lie there.
static Expected<std::vector<Tensor>> readTensors(const json::Object &metadata,
                                                 ArrayRef<uint8_t> section) {
  std::vector<Tensor> out;
  const json::Array *list = metadata.getArray("tensors");
  uint64_t end = 0;
  for (const json::Value &value : list ? *list : json::Array()) {
    const json::Object *object = value.getAsObject();
    const json::Array *shape = object ? object->getArray("shape") : nullptr;
    std::optional<int64_t> bytes = object ? integerOf(*object, "bytes") : std::nullopt;
    if (!shape || shape->empty() || !bytes || *bytes < 0)
      return createStringError("its metadata are damaged");
    Tensor tensor;
    tensor.name = object->getString("name").value_or("").str();
    for (const json::Value &extent : *shape)
      tensor.shape.push_back(integerOf(&extent).value_or(0));
    for (int64_t extent : tensor.shape)
      if (extent < 1 || extent > int64_t(1) << 31)
        return createStringError("tensor '" + tensor.name + "' has a damaged shape");
    StringRef name = object->getString("format").value_or("");
    if (const format::Spec *known = format::knownSpec(name)) {
      tensor.spec = *known;
    } else {
      Expected<format::Spec> spec = format::parse(name);
      if (!spec)
        return spec.takeError();
      tensor.spec = std::move(*spec);
    }
    tensor.panels = object->getString("layout").value_or("") == "panel";
    uint64_t offset = llvm::alignTo(end, 64);
    if (offset > section.size() || uint64_t(*bytes) > section.size() - offset)
      return createStringError("tensor '" + tensor.name + "' lies beyond the weights");
    tensor.bytes = section.slice(offset, uint64_t(*bytes));
    end = offset + uint64_t(*bytes);
    out.push_back(std::move(tensor));
  }
  return out;
}

static Expected<std::vector<float>> decodeTensor(const Tensor &tensor) {
  int64_t n = tensor.rows(), k = tensor.columns();
  std::vector<float> values(size_t(n * k));
  format::Components all;
  if (!tensor.panels) {
    if (Error e = format::unpackCanonical(tensor.spec, {tensor.bytes}, 0, n, k, all))
      return std::move(e);
  } else {
    Expected<format::PackedLayout> layout = format::PackedLayout::get(tensor.spec, n, k);
    if (!layout)
      return layout.takeError();
    if (layout->bytes() != int64_t(tensor.bytes.size()))
      return createStringError("it has " + llvm::Twine(tensor.bytes.size()) + " bytes, not " +
                               llvm::Twine(layout->bytes()));
    std::vector<int64_t> sets;
    if (tensor.spec.kind == format::Spec::Kind::Split) {
      auto columns = format::splitColumns(tensor.spec, k);
      if (!columns)
        return columns.takeError();
      sets = std::move(*columns);
    }
    format::allocate(tensor.spec, 0, n, k, all, sets);
    for (int64_t p = 0; p < layout->panels(); ++p)
      if (Error e = layout->unpackPanel(
              tensor.bytes.slice(size_t(p * layout->panelStride), size_t(layout->panelBytes)), p,
              all))
        return std::move(e);
    if (layout->tableBytes)
      if (Error e = layout->unpackTables(
              tensor.bytes.slice(size_t(layout->tableStart), size_t(layout->tableBytes)), all))
        return std::move(e);
  }
  if (Error e = format::decode(tensor.spec, all, values))
    return std::move(e);
  return values;
}

/// Whether `values` are those of the model's tensor, but for rounding.
static Expected<bool> resembles(const import::ModelFile &model, const Tensor &tensor,
                                ArrayRef<float> values) {
  const import::TensorInfo *info = model.find(tensor.name);
  if (!info || info->elements() != int64_t(values.size()))
    return true; // fused or renamed; the program's own table has been checked
  Expected<import::TensorBytes> bytes = import::mapTensor(model, *info);
  if (!bytes)
    return bytes.takeError();
  std::vector<float> own(values.size());
  if (Error e = import::decodeRows(*info, bytes->bytes(), tensor.rows(), tensor.columns(), own))
    return std::move(e);
  double error = 0, norm = 0;
  for (auto [a, b] : llvm::zip(own, values)) {
    error += (double(a) - b) * (double(a) - b);
    norm += double(a) * a;
  }
  return error <= 0.5 * norm; // rows in another order: twice the norm
}

/// Rows of rotary heads in the order of the other container: pairs side by side (GGUF, for some
/// models), or the halves of a head one after the other (Hugging Face).
static std::vector<float> reorder(ArrayRef<float> values, const Tensor &tensor, int64_t heads,
                                  bool toPairs) {
  int64_t columns = tensor.columns(), perHead = tensor.rows() / heads, half = perHead / 2;
  std::vector<float> out;
  for (int64_t row = 0; row < tensor.rows(); ++row) {
    int64_t j = row % perHead;
    int64_t from = row - j + (toPairs ? j % 2 * half + j / 2 : j % half * 2 + j / half);
    llvm::append_range(out, values.slice(size_t(from * columns), size_t(columns)));
  }
  return out;
}

/// How many heads' rows may be in another order; 0: none.
static int64_t rotaryHeads(const import::ModelConfig &config, const Tensor &tensor) {
  int64_t heads = StringRef(tensor.name).ends_with(".attn_q.weight")   ? config.heads
                  : StringRef(tensor.name).ends_with(".attn_k.weight") ? config.kvHeads
                                                                       : 0;
  return heads > 0 && tensor.rows() % (2 * heads) == 0 ? heads : 0;
}

Error Executable::decodeInto(Program &program, StringRef model) const {
  auto section = payload->section(runtime::WeightSection);
  auto fail = [&](const llvm::Twine &why) { return createStringError(path + ": " + why); };
  if (std::optional<StringRef> passes = metadata.getString("passes"))
    return fail("it computes something else than the model (" + *passes +
                "), so that its weights say nothing alone; give --engine own");
  Expected<std::vector<Tensor>> tensors = readTensors(metadata, {section.data(), section.size()});
  if (!tensors)
    return fail(llvm::toString(tensors.takeError()));
  const json::Array *wanted = program.metadata().getArray("tensors");
  if (!wanted || wanted->size() != tensors->size())
    return fail("it has " + llvm::Twine(uint64_t(tensors->size())) + " tensors, the model " +
                llvm::Twine(uint64_t(wanted ? wanted->size() : 0)));
  Expected<import::ModelFile> source = import::open(model);
  if (!source)
    return source.takeError();
  Expected<import::ModelConfig> config = import::readConfig(*source);
  if (!config)
    return config.takeError();
  for (const Tensor &tensor : *tensors) {
    if (tensor.shape.size() > 2)
      return fail("'" + tensor.name + "' holds experts; give --engine own");
    Expected<std::vector<float>> values = decodeTensor(tensor);
    if (!values)
      return fail("tensor '" + tensor.name + "': " + llvm::toString(values.takeError()));
    Expected<bool> same = resembles(*source, tensor, *values);
    // A program has the order of the file that it was compiled from.
    int64_t heads = rotaryHeads(*config, tensor);
    for (bool toPairs : {false, true}) {
      if (!same || *same || !heads)
        break;
      std::vector<float> other = reorder(*values, tensor, heads, toPairs);
      same = resembles(*source, tensor, other);
      if (same && *same)
        *values = std::move(other);
    }
    if (!same)
      return same.takeError();
    if (!*same)
      return fail("'" + tensor.name + "' is not that of '" + model + "'");
    if (Error e = program.replaceWeight(tensor.name, *values, tensor.rows(), tensor.columns()))
      return fail(llvm::toString(std::move(e)));
  }
  return Error::success();
}

Expected<std::unique_ptr<Predictor>>
quern::quantize::createPredictor(StringRef model, const ProgramOptions &options) {
  if (import::isProgram(model) && !model.ends_with(".so"))
    return Executable::open(model, options.threads);
  return Program::create(model, options);
}
