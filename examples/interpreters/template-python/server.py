# SPDX-License-Identifier: Apache-2.0

"""Serves interpreter.py by the protocol in plugins/proto/interpreter/v1."""

import base64
import concurrent.futures
import datetime
import json
import os
import sys
import threading

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import interpreter
from interpreter_pb2 import (
    SEVERITY_ERROR,
    DescribeResponse,
    Diagnostic,
    File,
    InputsResponse,
    Marker,
    RenderResponse,
)
from interpreter_pb2_grpc import InterpreterServicer, add_InterpreterServicer_to_server

VERSION = "1"
CHUNK = 1 << 20


class Servicer(InterpreterServicer):
    def Describe(self, request, context):
        d = interpreter.DESCRIPTION
        return DescribeResponse(
            name=d["name"],
            version=d["version"],
            help=d["help"],
            markers=[Marker(**m) for m in d["markers"]],
            options_schema=json.dumps(d["options"]),
        )

    def Inputs(self, request, context):
        try:
            return InputsResponse(paths=interpreter.inputs(request.root, request.path, request.options))
        except interpreter.Mistake as e:
            return InputsResponse(diagnostics=[diagnostic(e)])

    def Render(self, request, context):
        try:
            for name, data in interpreter.render(request.source, request.path, request.options):
                yield RenderResponse(file=File(path=name))
                for at in range(0, len(data), CHUNK):
                    yield RenderResponse(chunk=data[at : at + CHUNK])
        except interpreter.Mistake as e:
            yield RenderResponse(diagnostic=diagnostic(e))


def diagnostic(e):
    return Diagnostic(severity=SEVERITY_ERROR, summary=e.summary, file=e.file, line=e.line, column=e.column)


def certificate():
    """A key and a certificate of its own for this one process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.utcnow()
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, cert


def exit_with_tape():
    """tape holds the other end of stdin open for as long as it lives."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def main():
    if os.environ.get("TAPE_INTERPRETER") != "5b0d6f4e-interpreter":
        if sys.argv[1:] == ["describe"]:
            print(json.dumps(interpreter.DESCRIPTION, indent=2))
            return 0
        print("This is an interpreter of tape, which starts it:", interpreter.DESCRIPTION["help"], file=sys.stderr)
        return 2
    if VERSION not in os.environ["PLUGIN_PROTOCOL_VERSIONS"].split(","):
        print("this interpreter speaks version", VERSION, "of the protocol only", file=sys.stderr)
        return 1

    # stdout is for the handshake; what else is printed goes to stderr.
    handshake = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    threading.Thread(target=exit_with_tape, daemon=True).start()

    key, cert = certificate()
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    credentials = grpc.ssl_server_credentials(
        [(private, cert.public_bytes(pem))],
        root_certificates=os.environ["PLUGIN_CLIENT_CERT"].encode(),
        require_client_auth=True,
    )
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()))
    add_InterpreterServicer_to_server(Servicer(), server)
    socket = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "socket")
    server.add_secure_port("unix:" + socket, credentials)
    server.start()

    der = cert.public_bytes(serialization.Encoding.DER)
    encoded = base64.b64encode(der).decode().rstrip("=")
    print("1", VERSION, "unix", socket, "grpc", encoded, sep="|", file=handshake, flush=True)
    server.wait_for_termination()
    return 0
