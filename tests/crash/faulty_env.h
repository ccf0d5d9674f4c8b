#pragma once

#include <rocksdb/env.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>

namespace muster {

// Fails the writes or syncs of WAL files once told to.
class FaultyEnv final : public rocksdb::EnvWrapper {
 public:
  enum class Fault { kNone, kSync, kTornAppend, kNoSpace };
  FaultyEnv() : EnvWrapper(rocksdb::Env::Default()) {}

  std::atomic<Fault> fault{Fault::kNone};

  rocksdb::Status NewWritableFile(const std::string& name,
                                  std::unique_ptr<rocksdb::WritableFile>* result,
                                  const rocksdb::EnvOptions& env_options) override {
    const auto status = EnvWrapper::NewWritableFile(name, result, env_options);
    if (status.ok() && name.ends_with(".log")) {
      *result = std::make_unique<File>(*this, std::move(*result));
    }
    return status;
  }

 private:
  class File final : public rocksdb::WritableFileWrapper {
   public:
    File(FaultyEnv& env, std::unique_ptr<rocksdb::WritableFile> file)
        : WritableFileWrapper(file.get()), env_(env), file_(std::move(file)) {}
    using WritableFileWrapper::Append;
    rocksdb::Status Append(const rocksdb::Slice& data) override {
      if (env_.fault == Fault::kNoSpace) return rocksdb::Status::NoSpace("injected: no space");
      if (env_.fault != Fault::kTornAppend) return file_->Append(data);
      (void)file_->Append(rocksdb::Slice(data.data(), data.size() / 2));
      return rocksdb::Status::IOError("injected: torn write");
    }
    rocksdb::Status Sync() override {
      return env_.fault == Fault::kSync ? rocksdb::Status::IOError("injected: sync failed")
                                        : file_->Sync();
    }
    rocksdb::Status Fsync() override { return Sync(); }

   private:
    FaultyEnv& env_;
    std::unique_ptr<rocksdb::WritableFile> file_;
  };
};

}  // namespace muster
