// A call from XLA through its C interface. XLA's C++ interface around it is templates that took 2.5 s to compile, of the 6.5
// that a first start spent in the C++ compiler; this takes 0.2 s.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>

#include "xla/ffi/api/c_api.h"

namespace jaxinfl {

template <typename T>
struct DataType;
template <>
struct DataType<float> {
  static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_F32;
};
template <>
struct DataType<bool> {
  static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_PRED;
};
template <>
struct DataType<int32_t> {
  static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_S32;
};
template <>
struct DataType<uint32_t> {
  static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_U32;
};
template <>
struct DataType<int64_t> {
  static constexpr XLA_FFI_DataType value = XLA_FFI_DataType_S64;
};

// An array that XLA passes, contiguous.
template <typename T>
struct Array {
  T* data;
  int64_t rank;
  const int64_t* dims;

  int64_t size() const {
    int64_t product = 1;
    for (int64_t axis = 0; axis < rank; ++axis) product *= dims[axis];
    return product;
  }
};

// Arguments, results and attributes of one call; what is not there, or is of another type, is an error for XLA to report.
class Call {
 public:
  explicit Call(XLA_FFI_CallFrame* frame) : frame_(frame) {}

  int64_t num_arguments() const { return frame_->args.size; }
  int64_t num_results() const { return frame_->rets.size; }

  template <typename T>
  Array<const T> argument(int64_t index, int64_t rank = kAnyRank) const {
    require(index < frame_->args.size, "too few arguments");
    return array<const T>(frame_->args.args[index], rank);
  }

  template <typename T>
  Array<T> result(int64_t index, int64_t rank = kAnyRank) const {
    require(index < frame_->rets.size, "too few results");
    return array<T>(frame_->rets.rets[index], rank);
  }

  // Two whole numbers, as of `numpy.array([2, 1], numpy.int64)`.
  const int64_t* pair(const std::string& name) const {
    const XLA_FFI_Attrs& attributes = frame_->attrs;
    for (int64_t i = 0; i < attributes.size; ++i) {
      if (name != std::string(attributes.names[i]->ptr, attributes.names[i]->len)) continue;
      require(attributes.types[i] == XLA_FFI_AttrType_ARRAY, "an attribute is no array");
      const auto* found = static_cast<const XLA_FFI_Array*>(attributes.attrs[i]);
      require(found->dtype == XLA_FFI_DataType_S64 && found->size == 2, "an attribute is not two numbers of 64 bits");
      return static_cast<const int64_t*>(found->data);
    }
    throw std::invalid_argument("an attribute is missing");
  }

  int64_t num_threads() const {
    int64_t number = 1;
    XLA_FFI_ThreadPool_NumThreads_Args query = {XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, nullptr, frame_->ctx, &number};
    discard(frame_->api->XLA_FFI_ThreadPool_NumThreads(&query));
    return number;
  }

  // Has a thread of XLA's do something, now or later; without a pool it is done here.
  void schedule(std::function<void()> work) const {
    auto* kept = new std::function<void()>(std::move(work));
    const auto task = [](void* data) {
      auto* work = static_cast<std::function<void()>*>(data);
      (*work)();
      delete work;
    };
    XLA_FFI_ThreadPool_Schedule_Args order = {XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, nullptr, frame_->ctx, task, kept};
    if (XLA_FFI_Error* error = frame_->api->XLA_FFI_ThreadPool_Schedule(&order)) {
      discard(error);
      task(kept);
    }
  }

 private:
  static constexpr int64_t kAnyRank = -1;

  static void require(bool holds, const char* otherwise) {
    if (!holds) throw std::invalid_argument(otherwise);
  }

  template <typename T>
  static Array<T> array(void* passed, int64_t rank) {
    const auto* buffer = static_cast<const XLA_FFI_Buffer*>(passed);
    require(buffer->dtype == DataType<std::remove_const_t<T>>::value, "an array has another type");
    require(rank == kAnyRank || buffer->rank == rank, "an array has another number of axes");
    return {static_cast<T*>(buffer->data), buffer->rank, buffer->dims};
  }

  void discard(XLA_FFI_Error* error) const {
    if (!error) return;
    XLA_FFI_Error_Destroy_Args order = {XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, nullptr, error};
    frame_->api->XLA_FFI_Error_Destroy(&order);
  }

  XLA_FFI_CallFrame* frame_;
};

// What is registered with XLA for a function of a call. XLA first asks which version of the interface it was compiled for.
template <void (*function)(const Call&)>
XLA_FFI_Error* handler(XLA_FFI_CallFrame* frame) {
  for (auto* extension = frame->extension_start; extension; extension = extension->next) {
    if (extension->type != XLA_FFI_Extension_Metadata) continue;
    XLA_FFI_Metadata* metadata = reinterpret_cast<XLA_FFI_Metadata_Extension*>(extension)->metadata;
    metadata->api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
    metadata->traits = 0;
    metadata->state_type_id = XLA_FFI_UNKNOWN_TYPE_ID;
    return nullptr;
  }
  std::string message;
  try {
    function(Call(frame));
    return nullptr;
  } catch (const std::exception& error) {
    message = std::string("jaxinfl: ") + error.what();
  }
  XLA_FFI_Error_Create_Args order = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, nullptr, message.c_str(), XLA_FFI_Error_Code_INTERNAL};
  return frame->api->XLA_FFI_Error_Create(&order);
}

}  // namespace jaxinfl
