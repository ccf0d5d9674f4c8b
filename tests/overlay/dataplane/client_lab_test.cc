#include "tests/overlay/dataplane/client_lab.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <future>

#include "overlay/dataplane/kernel/namespaces.h"

namespace muster::overlay::testing {
namespace {

constexpr int kPatienceMs = 3000;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address address_of(const std::string& text, int port) {
  Address out;
  if (text.find(':') == std::string::npos) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, text.c_str(), &v4->sin_addr);
    out.size = sizeof(*v4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr);
    out.size = sizeof(*v6);
  }
  return out;
}

std::string text_of_address(const Address& address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.storage.ss_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr, text,
              sizeof(text));
    return text;
  }
  inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr, text,
            sizeof(text));
  const std::string out(text);
  return out.starts_with("::ffff:") ? out.substr(7) : out;
}

std::string local_address(int fd) {
  Address address;
  address.size = sizeof(address.storage);
  getsockname(fd, address.raw(), &address.size);
  return text_of_address(address);
}

bool readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, kPatienceMs) > 0;
}

Answer read_answer(int fd) {
  Answer out;
  std::array<char, 256> buffer{};
  if (!readable(fd)) {
    out.error = ETIMEDOUT;
    return out;
  }
  const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
  if (got < 0) {
    out.error = errno;
    return out;
  }
  const std::string said(buffer.data(), static_cast<size_t>(got));
  const size_t space = said.find(' ');
  out.text = said.substr(0, space);
  if (space != std::string::npos) out.peer = said.substr(space + 1);
  return out;
}

}  // namespace

void inside(const std::string& netns, const std::function<void()>& work) {
  const Status done = on_own_thread([&]() -> Status {
    const UniqueFd fd(open(netns.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || setns(fd.get(), CLONE_NEWNET) != 0) return errno_status(errno, "enter " + netns);
    work();
    return ok_status();
  });
  EXPECT_TRUE(done.ok()) << done.message();
}

UniqueFd connect_tcp(const std::string& address, int port, int* error, int from) {
  const Address to = address_of(address, port);
  UniqueFd fd(socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{kPatienceMs / 1000, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (from != 0) {
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const Address own = address_of(to.storage.ss_family == AF_INET ? "0.0.0.0" : "::", from);
    EXPECT_EQ(bind(fd.get(), own.raw(), own.size), 0) << strerror(errno);
  }
  const int failed = connect(fd.get(), to.raw(), to.size) == 0 ? 0 : errno;
  if (error != nullptr) *error = failed;
  return failed == 0 ? std::move(fd) : UniqueFd();
}

Answer ask_on(int fd) {
  if (send(fd, "?", 1, MSG_NOSIGNAL) < 0) return {errno, {}, {}};
  return read_answer(fd);
}

UniqueFd open_udp(const std::string& address, int port) {
  const Address to = address_of(address, port);
  UniqueFd fd(socket(to.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(fd.get(), to.raw(), to.size), 0) << strerror(errno);
  return fd;
}

Answer ask_udp(int fd) {
  return ask_on(fd);
}

// ---------------------------------------------------------------- server

AddressServer::AddressServer(const std::string& netns, int port,
                             const std::vector<std::string>& udp_addresses)
    : stop_(eventfd(0, EFD_CLOEXEC)) {
  inside(netns, [&] {
    listener_ = UniqueFd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const Address any = address_of("::", port);
    EXPECT_EQ(bind(listener_.get(), any.raw(), any.size), 0) << strerror(errno);
    EXPECT_EQ(listen(listener_.get(), 1024), 0);
    for (const std::string& text : udp_addresses) {
      const Address at = address_of(text, port);
      UniqueFd fd(socket(at.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      EXPECT_EQ(bind(fd.get(), at.raw(), at.size), 0) << strerror(errno);
      sockets_.push_back(std::move(fd));
    }
  });
  thread_ = std::thread([this] { run(); });
}

AddressServer::~AddressServer() {
  const uint64_t one = 1;
  EXPECT_EQ(write(stop_.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
  thread_.join();
}

void AddressServer::run() {
  std::vector<UniqueFd> connections;
  while (true) {
    std::vector<pollfd> fds = {{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const UniqueFd& s : sockets_) fds.push_back({s.get(), POLLIN, 0});
    for (const UniqueFd& c : connections) fds.push_back({c.get(), POLLIN, 0});
    if (poll(fds.data(), fds.size(), -1) < 0) continue;
    if (fds[0].revents != 0) return;
    for (size_t i = 2; i < fds.size(); ++i) {
      if (fds[i].revents == 0) continue;
      Address from;
      from.size = sizeof(from.storage);
      char byte = 0;
      const bool stream = i - 2 >= sockets_.size();
      const ssize_t got = recvfrom(fds[i].fd, &byte, 1, 0, from.raw(), &from.size);
      if (stream && got <= 0) {
        connections[i - 2 - sockets_.size()].reset();
        continue;
      }
      if (stream) {
        from.size = sizeof(from.storage);
        getpeername(fds[i].fd, from.raw(), &from.size);
      }
      const std::string said = local_address(fds[i].fd) + " " + text_of_address(from);
      (void)sendto(fds[i].fd, said.data(), said.size(), MSG_NOSIGNAL, stream ? nullptr : from.raw(),
                   stream ? 0 : from.size);
    }
    std::erase_if(connections, [](const UniqueFd& fd) { return !fd; });
    if (fds[1].revents != 0) {
      UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (fd) connections.push_back(std::move(fd));
    }
  }
}

// ---------------------------------------------------------------- network

ClientLab::ClientLab() {
  if (!box.ok()) return;
  // Below where pins that a failed test left are looked for.
  box.run("", "mkdir -p " + box.dir() +
                  "/n1/netns && ip link add name lan0 type bridge && "
                  "ip link set lan0 up");
  truth.network.set_id("net");
  const char* const wanted = std::getenv("MUSTER_TEST_BALANCER");
  const auto chosen = choose_balancer(wanted == nullptr ? "nftables" : wanted);
  EXPECT_TRUE(chosen) << chosen.error().message();
  if (chosen) choice = *chosen;
  choice.on_use = false;
  truth.network.mutable_spec()->mutable_annotations()->set_name("back");
  truth.network.mutable_spec()->set_driver("overlay");
  truth.network.mutable_state()->add_pools()->set_subnet("10.60.0.0/16");
  truth.network.mutable_state()->add_pools()->set_subnet("fd60::/64");
  restart();
}

ClientLab::~ClientLab() {
  if (chores != nullptr) chores->stop();
}

void ClientLab::restart() {
  if (chores != nullptr) chores->stop();
  clients.reset();
  chores = std::make_unique<ThreadExecutor>("muster-test");
  clients = std::make_unique<ClientBalancers>(*chores, null_log(), choice, most);
}

std::string ClientLab::add(const std::string& name, const std::vector<std::string>& addresses) {
  const std::string path = box.dir() + "/n1/netns/" + name;
  std::string inside_commands = "ip link set lo up; ip link set eth0 up;";
  std::string batch;
  for (const std::string& a : addresses) {
    const bool v6 = a.find(':') != std::string::npos;
    batch += fmt::format("addr add {}/{} dev eth0{}\n", a, v6 ? 64 : 16, v6 ? " nodad" : "");
  }
  box.run("", fmt::format("touch {0} && unshare --net={0} true && ip link add v{1} type veth peer "
                          "name eth0 netns {0} && ip link set v{1} master lan0 up",
                          path, name));
  box.run(path, fmt::format("sysctl -qw net.ipv4.ping_group_range='0 2147483647'; {} ip -b - "
                            "<<'END'\n{}END\n",
                            inside_commands, batch));
  return path;
}

NetworkDifference ClientLab::task(const std::string& id, const std::string& service_id,
                                  const std::vector<std::string>& addresses,
                                  v1::EndpointState state) {
  v1::NetworkEndpoint& endpoint = truth.endpoints[id];
  endpoint.set_task_id(id);
  endpoint.set_service_id(service_id);
  endpoint.clear_addresses();
  for (const std::string& a : addresses) endpoint.add_addresses(a);
  endpoint.set_state(state);
  NetworkDifference difference;
  difference.task_ids.insert(id);
  return difference;
}

NetworkDifference ClientLab::no_task(const std::string& id) {
  truth.endpoints.erase(id);
  NetworkDifference difference;
  difference.task_ids.insert(id);
  return difference;
}

NetworkDifference ClientLab::service(const std::string& id, const std::vector<std::string>& vips) {
  v1::NetworkService& service = truth.services[id];
  service.set_service_id(id);
  service.set_name(id);
  service.clear_virtual_ips();
  for (const std::string& vip : vips) service.add_virtual_ips(vip);
  NetworkDifference difference;
  difference.service_ids.insert(id);
  return difference;
}

NetworkDifference ClientLab::weigh(const std::string& id, uint32_t weight) {
  truth.endpoints.at(id).set_weight(weight);
  NetworkDifference difference;
  difference.task_ids.insert(id);
  return difference;
}

NetworkDifference ClientLab::balance(const std::string& id, v1::EndpointSpec::Balancing by,
                                     Duration affinity) {
  truth.services.at(id).set_balancing(by);
  truth.services.at(id).set_affinity_ns(affinity.count());
  NetworkDifference difference;
  difference.service_ids.insert(id);
  return difference;
}

NetworkDifference ClientLab::no_service(const std::string& id) {
  truth.services.erase(id);
  NetworkDifference difference;
  difference.service_ids.insert(id);
  return difference;
}

void ClientLab::apply(const NetworkDifference& difference) {
  const Status applied = clients->apply(truth, difference);
  EXPECT_TRUE(applied.ok()) << applied.message();
}

void ClientLab::settle() {
  std::promise<void> done;
  chores->post([&] { done.set_value(); });
  done.get_future().wait();
}

std::vector<std::string> ClientLab::repair() {
  std::vector<std::string> said;
  for (const std::string& container : clients->begin_repair()) clients->repair(container, said);
  return said;
}

}  // namespace muster::overlay::testing
