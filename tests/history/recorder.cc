#include "tests/history/recorder.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>

#include "muster/v1/control.grpc.pb.h"

namespace muster::history {
namespace {

constexpr size_t kInUse = 5;
constexpr uint64_t kOperationsPerRegister = 200;
constexpr auto kAttempt = std::chrono::milliseconds(700);
constexpr int kAttempts = 4;
constexpr const char* kLabel = "value";

// What a manager said to one attempt.
struct Answer {
  Outcome outcome = Outcome::kUnknown;
  v1::Config config;  // with ok, of all but removals
};

std::string reason_of(const grpc::ClientContext& context) {
  const auto& trailer = context.GetServerTrailingMetadata();
  const auto found = trailer.find("muster-reason");
  return found == trailer.end() ? "" : std::string(found->second.data(), found->second.size());
}

// As docs/managers.md promises: what says that it certainly was not done was not.
Outcome judge(const grpc::Status& status, const std::string& reason) {
  using grpc::StatusCode;
  if (status.ok()) return Outcome::kOk;
  // Done, and undone by somebody else: the answer does not say what it was like between.
  if (reason == "removed-since") return Outcome::kUnknown;
  if (status.error_code() == StatusCode::NOT_FOUND ||
      status.error_code() == StatusCode::ALREADY_EXISTS || reason == "out-of-sequence")
    return Outcome::kRefused;
  for (const char* certain : {"no-leader", "leader-unreachable", "not-leader", "not-a-manager",
                              "disk-full", "overloaded"}) {
    if (reason == certain) return Outcome::kFailed;
  }
  // gRPC's own word for a server that was not reached at all.
  if (status.error_code() == StatusCode::UNAVAILABLE && reason.empty() &&
      status.error_message().starts_with("failed to connect to all addresses"))
    return Outcome::kFailed;
  return Outcome::kUnknown;
}

std::string value_of(const v1::Config& config) {
  for (const auto& label : config.spec().annotations().labels()) {
    if (label.key() == kLabel) return label.value();
  }
  return "";
}

void set_value(v1::ConfigSpec* spec, const std::string& value) {
  spec->mutable_annotations()->clear_labels();
  auto* label = spec->mutable_annotations()->add_labels();
  label->set_key(kLabel);
  label->set_value(value);
}

}  // namespace

// ------------------------------------------------------------ the file, the registers

TimePoint Journal::now() {
  return {std::chrono::steady_clock::now().time_since_epoch()};
}

void Journal::begin(Operation* op) {
  const std::lock_guard lock(mutex_);
  op->id = next_++;
  op->begin = now();
  write(begin_line(*op));
}

void Journal::end(Operation* op) {
  const std::lock_guard lock(mutex_);
  op->end = now();
  write(end_line(*op));
}

Status Journal::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void Journal::write(const std::string& line) {
  std::string_view rest = line;
  while (status_.ok() && !rest.empty()) {
    const ssize_t n = ::write(file_.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      status_ = errno_status(errno, "write the history");
    } else {
      rest.remove_prefix(static_cast<size_t>(n));
    }
  }
}

Registers::Registers(std::string prefix) : prefix_(std::move(prefix)) {
  while (used_.size() < kInUse) used_.emplace_back(fresh(), 0);
}

std::string Registers::fresh() {
  return fmt::format("{}-{}", prefix_, ++made_);
}

std::string Registers::pick(Rng& rng) const {
  const std::lock_guard lock(mutex_);
  return used_[rng.below(used_.size())].first;
}

void Registers::used(const std::string& key) {
  const std::lock_guard lock(mutex_);
  for (auto& [name, uses] : used_) {
    if (name != key || ++uses < kOperationsPerRegister) continue;
    name = fresh();
    uses = 0;
  }
}

std::vector<std::string> Registers::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (uint64_t i = 1; i <= made_; ++i) out.push_back(fmt::format("{}-{}", prefix_, i));
  return out;
}

// ------------------------------------------------------------ one client

namespace {

// Of a recording of its own: the swarm remembers request ids, and would take those of a second one
// with the same seed for repetitions of the first.
uint64_t seed_of(const Recorder::Options& options, uint64_t client) {
  uint64_t seed = options.seed * 1000 + client;
  for (const char c : options.prefix) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return seed;
}

}  // namespace

class Recorder::Client {
 public:
  Client(const Options& options, uint64_t number, Journal& journal, Registers& registers)
      : number_(number),
        rng_(seed_of(options, number)),
        journal_(journal),
        registers_(registers),
        current_(number % options.managers.size()) {
    for (const auto& [name, address] : options.managers) {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
      // How long a connection may take to come about: on a busy machine more than gRPC's least.
      arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
      arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
      managers_.push_back({name, v1::Control::NewStub(grpc::CreateCustomChannel(
                                     address, grpc::InsecureChannelCredentials(), arguments))});
    }
  }

  void step() {
    const std::string key = registers_.pick(rng_);
    const uint64_t choice = rng_.below(100);
    const auto known = known_.find(key);
    if (choice < 30) {
      read(key, Kind::kRead);
    } else if (choice < 45) {
      read(key, Kind::kPlain);
    } else if (known == known_.end()) {
      // Mostly one that is there, which has to be read before it can be replaced.
      choice < 85 ? void(read(key, Kind::kRead)) : create(key);
    } else if (known->second.id().empty()) {
      create(key);
    } else if (choice < 88) {
      update(key, known->second);
    } else if (choice < 92) {
      remove(key);
    } else {
      create(key);
    }
    // Often where it was, as clients do that stay with what works, and never anywhere for long.
    if (rng_.below(10) == 0) move_on();
  }

  // Until somebody answers.
  bool read(const std::string& key, Kind kind) {
    Operation op = operation(kind, key);
    journal_.begin(&op);
    // A plain read is about one manager.
    const int attempts = kind == Kind::kPlain ? 1 : kAttempts;
    Answer answer;
    for (int i = 0; i < attempts; ++i) {
      answer = ask_for(key, kind == Kind::kRead);
      op.manager = managers_[current_].name;
      if (answer.outcome == Outcome::kOk || answer.outcome == Outcome::kRefused) break;
      answer.outcome = Outcome::kFailed;  // nothing was read, whatever became of the request
      move_on();
    }
    finish(&op, answer);
    return op.outcome != Outcome::kFailed;
  }

 private:
  struct Manager {
    std::string name;
    std::unique_ptr<v1::Control::Stub> stub;
  };

  Operation operation(Kind kind, const std::string& key) const {
    Operation op;
    op.client = number_;
    op.kind = kind;
    op.key = key;
    op.manager = managers_[current_].name;
    return op;
  }
  std::string fresh_value() { return fmt::format("{}.{}", number_, ++written_); }
  void move_on() { current_ = (current_ + 1) % managers_.size(); }

  template <class Request, class Response>
  using Method = grpc::Status (v1::Control::Stub::*)(grpc::ClientContext*, const Request&,
                                                     Response*);

  template <class Request, class Response>
  Answer attempt(Method<Request, Response> method, const Request& request, bool exact) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kAttempt);
    if (exact) context.AddMetadata("muster-linearizable", "1");
    Response response;
    const grpc::Status status =
        (managers_[current_].stub.get()->*method)(&context, request, &response);
    Answer answer;
    answer.outcome = judge(status, reason_of(context));
    if constexpr (requires { response.config(); }) answer.config = response.config();
    return answer;
  }

  Answer ask_for(const std::string& key, bool exact) {
    v1::GetConfigRequest request;
    request.set_config(key);
    return attempt(&v1::Control::Stub::GetConfig, request, exact);
  }

  // What may have been done is repeated only with a request id; then the answer is to the first,
  // if that was carried out. A refusal says nothing of the first, which may be on its way still.
  template <class Request, class Response>
  Answer write(Operation* op, Method<Request, Response> method, Request request) {
    const bool repeatable = rng_.below(2) == 0;
    if (repeatable) request.set_request_id(rng_.id());
    journal_.begin(op);
    Answer answer;
    bool maybe = false;
    for (int i = 0; i < kAttempts; ++i) {
      answer = attempt(method, request, false);
      op->manager = managers_[current_].name;
      if (answer.outcome == Outcome::kOk || answer.outcome == Outcome::kRefused) break;
      move_on();
      maybe = maybe || answer.outcome == Outcome::kUnknown;
      if (maybe && !repeatable) break;
    }
    if (maybe && answer.outcome != Outcome::kOk) answer.outcome = Outcome::kUnknown;
    return answer;
  }

  void create(const std::string& key) {
    Operation op = operation(Kind::kCreate, key);
    op.value = fresh_value();
    v1::CreateConfigRequest request;
    request.mutable_spec()->mutable_annotations()->set_name(key);
    request.mutable_spec()->set_data("a register");
    set_value(request.mutable_spec(), op.value);
    finish(&op, write(&op, &v1::Control::Stub::CreateConfig, std::move(request)));
  }

  void update(const std::string& key, const v1::Config& from) {
    Operation op = operation(Kind::kUpdate, key);
    op.from = value_of(from);
    op.value = fresh_value();
    v1::UpdateConfigRequest request;
    request.set_config_id(from.id());
    request.set_version(from.meta().version());
    request.mutable_spec()->mutable_annotations()->set_name(key);
    set_value(request.mutable_spec(), op.value);
    finish(&op, write(&op, &v1::Control::Stub::UpdateConfig, std::move(request)));
  }

  void remove(const std::string& key) {
    Operation op = operation(Kind::kRemove, key);
    v1::RemoveConfigRequest request;
    request.set_config(key);
    finish(&op, write(&op, &v1::Control::Stub::RemoveConfig, std::move(request)));
  }

  // What is known of a register afterwards: what was told last, or nothing.
  void finish(Operation* op, const Answer& answer) {
    op->outcome = answer.outcome;
    const bool reads = op->kind == Kind::kRead || op->kind == Kind::kPlain;
    if (answer.outcome == Outcome::kOk && answer.config.id().size() != 0) {
      op->version = answer.config.meta().version();
      if (reads) op->value = value_of(answer.config);
      known_[op->key] = answer.config;
    } else if ((op->kind == Kind::kRemove && answer.outcome == Outcome::kOk) ||
               (reads && answer.outcome == Outcome::kRefused)) {
      known_[op->key] = v1::Config();
    } else if (!reads) {
      known_.erase(op->key);
    }
    journal_.end(op);
    // What nobody did is nothing to check.
    if (op->outcome != Outcome::kFailed) registers_.used(op->key);
  }

  const uint64_t number_;
  SeededRng rng_;
  Journal& journal_;
  Registers& registers_;
  std::vector<Manager> managers_;
  size_t current_;
  uint64_t written_ = 0;
  // By register; no id: it is absent. Grows by some hundred bytes a register.
  std::map<std::string, v1::Config> known_;
};

// ------------------------------------------------------------ all of them

Recorder::Recorder(Options options, UniqueFd file)
    : options_(std::move(options)), journal_(std::move(file)), registers_(options_.prefix) {
  for (uint64_t number = 1; number <= options_.clients; ++number) {
    threads_.emplace_back([this, number] {
      Client client(options_, number, journal_, registers_);
      std::unique_lock lock(mutex_);
      while (!stopping_) {
        lock.unlock();
        client.step();
        lock.lock();
        changed_.wait_for(lock, options_.period, [this] { return stopping_; });
      }
    });
  }
}

Recorder::~Recorder() {
  stop();
}

void Recorder::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

Status Recorder::finish(Duration patience) {
  stop();
  const TimePoint until = Journal::now() + patience;
  Client client(options_, options_.clients + 1, journal_, registers_);
  for (const std::string& key : registers_.all()) {
    while (!client.read(key, Kind::kRead)) {
      if (Journal::now() > until)
        return Status(StatusCode::kDeadlineExceeded,
                      fmt::format("nobody could be asked for {} at the end", key));
    }
  }
  return journal_.status();
}

}  // namespace muster::history
