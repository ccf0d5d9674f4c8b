#include "deploy/daemon/metrics_server.h"

#include <netdb.h>
#include <sys/socket.h>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <cerrno>
#include <memory>
#include <sstream>

namespace muster::daemon {
namespace {

namespace http = boost::beast::http;

http::response<http::string_body> respond(const http::request<http::string_body>& request,
                                          const Metrics& metrics) {
  http::response<http::string_body> response;
  response.version(11);
  response.set(http::field::connection, "close");
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    response.result(http::status::method_not_allowed);
    response.body() = "only GET\n";
  } else if (request.target() != "/metrics") {
    response.result(http::status::not_found);
    response.body() = "see /metrics\n";
  } else {
    response.result(http::status::ok);
    response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
    response.body() = metrics.expose();
  }
  response.prepare_payload();
  return response;
}

}  // namespace

MetricsServer::~MetricsServer() {
  stopping_ = true;
  if (listener_) shutdown(listener_.get(), SHUT_RDWR);
  if (thread_.joinable()) thread_.join();
}

Status MetricsServer::start(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return invalid_argument("bad metrics address \"{}\": write host:port", address);
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.empty() ? nullptr : host.c_str(), address.c_str() + colon + 1,
                                &hints, &found);
  if (error != 0) {
    return invalid_argument("bad metrics address \"{}\": {}", address, gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  listener_ = UniqueFd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener_.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      listen(listener_.get(), 16) != 0) {
    return errno_status(errno, fmt::format("cannot serve metrics on {}", address));
  }
  thread_ = std::thread([this] { serve(); });
  return ok_status();
}

void MetricsServer::serve() {
  pthread_setname_np(pthread_self(), "metrics");
  while (!stopping_) {
    const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client) answer(client.get());
  }
}

void MetricsServer::answer(int fd) {
  const timeval limit{5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  http::request_parser<http::string_body> parser;
  parser.header_limit(8192);
  parser.body_limit(0);
  std::string received;
  char buffer[4096];
  while (!parser.is_done()) {
    const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) return;
    received.append(buffer, static_cast<size_t>(n));
    boost::system::error_code error;
    const size_t used = parser.put(boost::asio::buffer(received), error);
    if (error && error != http::error::need_more) return;
    received.erase(0, used);
  }
  std::ostringstream text;
  text << respond(parser.get(), metrics_);
  const std::string out = text.str();
  for (size_t at = 0; at < out.size();) {
    const ssize_t n = send(fd, out.data() + at, out.size() - at, MSG_NOSIGNAL);
    if (n <= 0) return;
    at += static_cast<size_t>(n);
  }
}

}  // namespace muster::daemon
