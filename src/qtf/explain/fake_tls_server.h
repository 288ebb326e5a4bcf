// A TLS server for tests of the chat client, with a certificate that it made and signed itself in memory.
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <memory>
#include <mutex>
#include <string>

#include "qtf/explain/loopback_server.h"

namespace qtf::explain {

/// Answers every request with the same bytes. What clients sent inside of TLS can be read.
class FakeTlsServer {
 public:
  /// host: for whom the certificate is.
  FakeTlsServer(const std::string& host, std::string answer)
      : context_(own_certificate(host)),
        answer_(std::move(answer)),
        server_([this](int connection) { serve(connection); }) {}

  std::string url() const { return server_.url("https"); }
  std::string read() const {
    const std::lock_guard lock(mutex_);
    return read_;
  }

 private:
  using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

  static Context own_certificate(const std::string& host) {
    Context context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
    X509_set_version(certificate.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME* name = X509_get_subject_name(certificate.get());
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(host.c_str()),
                               -1, -1, 0);
    X509_set_issuer_name(certificate.get(), name);
    X509_sign(certificate.get(), key.get(), EVP_sha256());
    SSL_CTX_use_certificate(context.get(), certificate.get());
    SSL_CTX_use_PrivateKey(context.get(), key.get());
    return context;
  }

  void serve(int connection) {
    const timeval limit{1, 0};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    const std::unique_ptr<SSL, decltype(&SSL_free)> tls(SSL_new(context_.get()), SSL_free);
    SSL_set_fd(tls.get(), connection);
    if (SSL_accept(tls.get()) != 1) return;
    char buffer[4096];
    const int n = SSL_read(tls.get(), buffer, sizeof(buffer));
    if (n > 0) {
      const std::lock_guard lock(mutex_);
      read_.append(buffer, static_cast<size_t>(n));
    }
    SSL_write(tls.get(), answer_.data(), static_cast<int>(answer_.size()));
    SSL_shutdown(tls.get());
  }

  Context context_;
  std::string answer_;
  mutable std::mutex mutex_;
  std::string read_;
  LoopbackServer server_;  // last: its thread uses all of the above
};

}  // namespace qtf::explain
