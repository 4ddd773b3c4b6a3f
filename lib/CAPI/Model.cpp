//===- Model.cpp - Model files through the C interface --------------------===//
//
// Opening, listing, decoding, tokenizing and converting.
//
//===----------------------------------------------------------------------===//
#include "Internal.h"
#include "quern/Export/Convert.h"
#include "quern/Import/Inspect.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"
#include <cstdlib>

using namespace llvm;
using namespace quern;
using namespace quern::capi;

QuernStatus quernModelOpen(const char *path, const QuernCallbacks *callbacks, QuernModel **model) {
  Caller caller(callbacks);
  Expected<import::ModelFile> file = import::open(path);
  if (!file)
    return caller.fail(file.takeError());
  auto *opened = new QuernModel{std::move(*file), {}};
  for (const import::TensorInfo &tensor : opened->file.tensors)
    opened->formats.push_back(tensor.decodable ? format::print(tensor.spec) : "");
  *model = opened;
  return QUERN_STATUS_OK;
}

void quernModelClose(QuernModel *model) { delete model; }

size_t quernModelTensorCount(const QuernModel *model) { return model->file.tensors.size(); }

QuernStatus quernModelTensor(const QuernModel *model, size_t index, QuernTensorInfo *info) {
  if (index >= model->file.tensors.size())
    return QUERN_STATUS_FAILED;
  const import::TensorInfo &tensor = model->file.tensors[index];
  *info = {tensor.name.c_str(),
           tensor.fileType.c_str(),
           model->formats[index].c_str(),
           tensor.shape.data(),
           tensor.shape.size(),
           tensor.elements(),
           tensor.size};
  return QUERN_STATUS_OK;
}

static Error decodeTensor(const import::ModelFile &model, const import::TensorInfo &tensor,
                          MutableArrayRef<float> out) {
  auto error = [&](const Twine &message) {
    return createStringError(model.path + ": tensor '" + tensor.name + "': " + message);
  };
  if (!tensor.decodable)
    return error("numbers of type " + tensor.fileType + " cannot be decoded");
  if (out.size() != uint64_t(tensor.elements()))
    return error("expected room for " + Twine(tensor.elements()) + " values, found " +
                 Twine(out.size()));
  if (out.empty())
    return Error::success();
  Expected<import::TensorBytes> bytes = import::mapTensor(model, tensor);
  if (!bytes)
    return bytes.takeError();
  int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back(), rows = out.size() / cols;
  return import::decodeRows(tensor, bytes->bytes(), rows, cols, out);
}

QuernStatus quernModelReadTensor(const QuernModel *model, size_t index, float *out, size_t count,
                                 const QuernCallbacks *callbacks) {
  Caller caller(callbacks);
  if (index >= model->file.tensors.size())
    return caller.fail(createStringError(model->file.path + ": no tensor number " + Twine(index) +
                                         "; it has " + Twine(model->file.tensors.size())));
  if (Error e = decodeTensor(model->file, model->file.tensors[index], {out, count}))
    return caller.fail(std::move(e));
  return QUERN_STATUS_OK;
}

QuernStatus quernModelInspect(const QuernModel *model, const QuernCallbacks *callbacks,
                              QuernString *json) {
  std::string text;
  raw_string_ostream(text) << llvm::json::Value(import::inspect(model->file, /*full=*/false));
  *json = makeString(text);
  if (!json->data)
    return Caller(callbacks).fail(createStringError("out of memory"));
  return QUERN_STATUS_OK;
}

QuernStatus quernConvert(const char *input, const char *output, const QuernConvertOptions *options,
                         const QuernCallbacks *callbacks) {
  Caller caller(callbacks);
  QuernConvertOptions given = normalized(options);
  Expected<import::ModelFile> model = import::open(input);
  if (!model)
    return caller.fail(model.takeError());
  exporter::ConvertOptions convert;
  convert.dequantize = text(given.dequantize);
  convert.format = text(given.format);
  convert.force = given.force;
  convert.progress = [&](size_t done, size_t total, StringRef tensor) {
    return caller.progress("convert", total ? double(done) / total : 1);
  };
  convert.note = [&](const std::string &message) { caller.remark(message); };
  if (Error e = exporter::convert(*model, output, convert))
    return caller.fail(std::move(e));
  return QUERN_STATUS_OK;
}

QuernStatus quernModelTokenize(const QuernModel *model, const char *text, size_t length,
                               const QuernCallbacks *callbacks, int32_t **ids, size_t *count) {
  Caller caller(callbacks);
  Expected<runtime::TokenizerData> data = import::readTokenizer(model->file);
  if (!data)
    return caller.fail(data.takeError());
  std::string error;
  std::vector<uint8_t> blob = data->serialize(error);
  if (!error.empty())
    return caller.fail(createStringError(model->file.path + ": " + error));
  std::unique_ptr<runtime::Tokenizer> tokenizer =
      runtime::Tokenizer::load(blob.data(), blob.size(), error);
  if (!tokenizer)
    return caller.fail(createStringError(model->file.path + ": " + error));
  std::vector<int32_t> result = tokenizer->encode({text, length}, /*parseSpecial=*/true, &error);
  if (!error.empty())
    return caller.fail(createStringError(model->file.path + ": " + error));
  *count = result.size();
  *ids = static_cast<int32_t *>(std::malloc(std::max<size_t>(1, result.size()) * sizeof(int32_t)));
  if (!*ids)
    return caller.fail(createStringError("out of memory"));
  std::copy(result.begin(), result.end(), *ids);
  return QUERN_STATUS_OK;
}

void quernIdsFree(int32_t *ids) { std::free(ids); }
