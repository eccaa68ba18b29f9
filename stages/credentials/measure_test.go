// SPDX-License-Identifier: Apache-2.0

package credentials_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// line is a value as people write it into manifests. In a ConfigMap its name is the key.
type line struct{ name, value string }

// pieces joins a token of pieces, so that scanners of this repository do not report it.
func pieces(s ...string) string { return strings.Join(s, "") }

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// planted are credentials by what they are of. All values are made up.
func planted() map[string][]line {
	pem := func(label string) string {
		return "-----BEGIN " + label + "PRIVATE KEY-----\nMIIEowIBAAKCAQEAx4fm7dngEmOULNmAs1IGZ9Apfzh+BkaQ1dzkmbUgpcoghucE\nDZRnAGd2aPyB6skGMXUytWQvNYav0WTR00wFtX1ohWTfv68HGXJ8QXCpyoSKSSFY\n-----END " + label + "PRIVATE KEY-----\n"
	}
	hex := "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	return map[string][]line{
		"aws": {
			{"AWS_ACCESS_KEY_ID", pieces("AKIA", "Z7QW3NRT5LKP2VDX")},
			{"AWS_SECRET_ACCESS_KEY", pieces("kJ8dP2vQx7", "Lm4nR9tW1yZ5bC3fH6gS0aE8uI2oK4p/")},
			{"AWS_SESSION_TOKEN", pieces("FwoGZXIvYXdzEJr", "//////////wEaDKx2v9QmR7nT4pLsYCLAAd8fG1hJ2kL3zX4cV5bN6mQ7wE8rT9yU0iO1pA==")},
			{"credentials", "[default]\naws_access_key_id = " + pieces("AKIA", "Z7QW3NRT5LKP2VDX") + "\naws_secret_access_key = kJ8dP2vQx7Lm4nR9tW1yZ5bC3fH6gS0aE8uI2oKv\n"},
			{"config.yaml", "s3:\n  secret_key: kJ8dP2vQx7Lm4nR9tW1yZ5bC3fH6gS0aE8uI2oKv\n"},
		},
		"gcp": {
			{"key.json", `{"type": "service_account", "project_id": "shop", "private_key_id": "d3adb33f", "private_key": ` + fmt.Sprintf("%q", pem("")) + `, "client_email": "a@shop.iam.gserviceaccount.com"}`},
			{"GOOGLE_API_KEY", pieces("AIza", "SyD3x9KqL2mN7pR4tV8wY1zB5cF6gH0jQsU")},
			{"GOOGLE_CLIENT_SECRET", pieces("GOCSPX-", "k9Lm2Np4Qr6St8Uv0Wx1Yz3Ab5Cd")},
		},
		"azure": {
			{"AZURE_CLIENT_SECRET", pieces("Qx7~8Q", "mLk2Np4Qr6St8Uv0Wx1Yz3Ab5Cd7EfGh")},
			{"AZURE_STORAGE_CONNECTION_STRING", pieces("DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=", "q8Zk1mX0sJ7wB4tYchV2+3dF5gH6jK9lQ8rT1uV0wX2yZ4aB6cD8eF0gH2iJ4kL6mN8oP0qR2sT4uV6wX8yZ0A==", ";EndpointSuffix=core.windows.net")},
			{"SERVICEBUS", pieces("Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=", "q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1uV0wX2y=")},
		},
		"github": {
			{"GITHUB_TOKEN", pieces("ghp_", "q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1")},
			{"args", "--token=" + pieces("github_pat_", "11ABCDEFG0q8Zk1mX0sJ7w_B4tYchV23dF5gH6jK9lQ8rT1uV0wX2yZ4aB6cD8eF0gH2iJ4kL6mN8oP0qR2")},
			{"git", "https://x-access-token:" + pieces("ghs_", "q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1") + "@github.com/acme/shop.git"},
		},
		"gitlab": {
			{"GITLAB_TOKEN", pieces("glpat-", "q8Zk1mX0sJ7wB4tYchV2")},
			{"RUNNER", pieces("glrt-", "q8Zk1mX0sJ7wB4tYchV2")},
			{"DEPLOY", pieces("gldt-", "q8Zk1mX0sJ7wB4tYchV2")},
			{"TRIGGER", pieces("glptt-", "8f2c1d7e9a4b6c3d5e0f1a2b3c4d5e6f7a8b9c0d")},
			{"CI", pieces("glcbt-", "64_q8Zk1mX0sJ7wB4tYchV2")},
		},
		"slack": {
			{"SLACK_BOT", pieces("xoxb-", "203948576102-4857610293847-q8Zk1mX0sJ7wB4tYchV23dF5")},
			{"alertmanager.yml", "global:\n  slack_api_url: https://" + pieces("hooks.slack.com/services/T", "03MZQ8K2/B04NRX7LD/q8Zk1mX0sJ7wB4tYchV23dF5") + "\n"},
		},
		"stripe":  {{"STRIPE", pieces("sk_live_", "51Kq8Zk1mX0sJ7wB4tYchV23dF5")}, {"STRIPE_RK", pieces("rk_live_", "51Kq8Zk1mX0sJ7wB4tYchV23dF5")}, {"WEBHOOK", pieces("whsec_", "q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ")}},
		"twilio":  {{"TWILIO_AUTH_TOKEN", "8f2c1d7e9a4b6c3d5e0f1a2b3c4d5e6f"}, {"TWILIO", pieces("SK", "8f2c1d7e9a4b6c3d5e0f1a2b3c4d5e6f")}},
		"mail":    {{"SENDGRID", pieces("SG.", "q8Zk1mX0sJ7wB4tYchV23d.F5gH6jK9lQ8rT1uV0wX2yZ4aB6cD8eF0gH2iJ4kL6mN")}, {"MAILGUN", pieces("key-", "8f2c1d7e9a4b6c3d5e0f1a2b3c4d5e6f")}},
		"npm":     {{".npmrc", "//registry.npmjs.org/:_authToken=" + pieces("npm_", "q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1") + "\n"}, {".npmrc", "//npm.acme.io/:_authToken=8f2c1d7e-9a4b-6c3d-5e0f-1a2b3c4d5e6f\n"}, {".npmrc", "//npm.acme.io/:_auth=" + encoded("bot:q8Zk1mX0sJ7w") + "\n"}},
		"pypi":    {{".pypirc", "[pypi]\nusername = __token__\npassword = " + pieces("pypi-AgE", "IcHlwaS5vcmcCJDhmMmMxZDdlLTlhNGItNmMzZC01ZTBmLTFhMmIzYzRkNWU2ZgACKlszLCJxOFprMW1YMHNKN3ciXQ") + "\n"}},
		"docker":  {{"config.json", `{"auths":{"registry.acme.io":{"auth":"` + encoded("robot:q8Zk1mX0sJ7w") + `"}}}`}, {"DOCKERHUB", pieces("dckr_pat_", "q8Zk1mX0sJ7wB4tYchV23dF5gH6")}},
		"jwt":     {{"A", jwt}, {"kubeconfig", "users:\n- name: ci\n  user:\n    token: " + jwt + "\n"}, {"script.sh", "curl -H \"Authorization: Bearer " + jwt + "\" https://api.acme.io\n"}},
		"headers": {{"nginx.conf", "proxy_set_header Authorization \"Basic " + encoded("robot:q8Zk1mX0sJ7w") + "\";\n"}, {"run.sh", "curl -H 'X-Api-Key: q8Zk1mX0sJ7wB4tYchV23dF5' https://api.acme.io\n"}, {"run.sh", "curl -u robot:q8Zk1mX0sJ7w https://api.acme.io\n"}, {"run.sh", "curl -H 'Authorization: Bearer q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ' https://api.acme.io\n"}},
		"private": {{"id_rsa", pem("OPENSSH ")}, {"tls.key", pem("RSA ")}, {"ec.pem", pem("EC ")}, {"p8", pem("")}, {"p8", pem("ENCRYPTED ")}, {"age", "# created\n" + pieces("AGE-SECRET-KEY-1", "QYZ3L5GJ8T2K9W6M4XR7N0PD5VHC8SEFA3U2JY6K4LQT9XWZM0R7N5P2VD") + "\n"}, {"wg0.conf", "[Interface]\nPrivateKey = q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1uV0wX2y=\n"}},
		"connections": {
			{"DATABASE_URL", "postgres://shop:q8Zk1mX0@db.prod.svc:5432/shop?sslmode=require"},
			{"DSN", "host=db port=5432 user=shop password=q8Zk1mX0 dbname=shop sslmode=disable"},
			{"MYSQL_DSN", "shop:q8Zk1mX0@tcp(mysql:3306)/shop?parseTime=true"},
			{"JDBC_URL", "jdbc:postgresql://db:5432/shop?user=shop&password=q8Zk1mX0"},
			{"SPRING_DATASOURCE_URL", "jdbc:sqlserver://db:1433;databaseName=shop;user=sa;password=q8Zk1mX0!;"},
			{"REDIS_URL", "redis://:q8Zk1mX0@redis-master:6379/0"},
			{"REDIS_URL", "rediss://default:q8Zk1mX0@redis:6379"},
			{"MONGO", "mongodb+srv://shop:q8Zk1mX0@cluster0.acme.mongodb.net/shop?retryWrites=true"},
			{"AMQP_URL", "amqp://shop:q8Zk1mX0@rabbitmq:5672/%2f"},
			{"SQLALCHEMY", "postgresql+psycopg2://shop:q8Zk1mX0@db/shop"},
			{"ConnectionStrings__Default", "Server=db;Database=shop;User Id=sa;Password=q8Zk1mX0;TrustServerCertificate=True"},
			{"HTTP_PROXY", "http://proxy:q8Zk1mX0@proxy.corp:3128"},
			{"PIP_INDEX_URL", "https://robot:q8Zk1mX0@pypi.acme.io/simple"},
			{"SMTP_URL", "smtps://robot%40acme.io:q8Zk1mX0@smtp.acme.io:465"},
		},
		"variables": {
			{"DB_PASSWORD", "hunter2"}, {"password", "hunter2\n"}, {"POSTGRES_PASSWORD", "s3cr3t!"}, {"MYSQL_ROOT_PASSWORD", "correct horse battery staple"},
			{"REDIS_PASS", "q8Zk1mX0"}, {"SMTP_PWD", "q8Zk1mX0"}, {"adminPassword", "prom-operator"}, {"GF_SECURITY_ADMIN_PASSWORD", "strongpassword"},
			{"JWT_SECRET", "q8Zk1mX0sJ7wB4tYchV23dF5"}, {"SESSION_SECRET", hex}, {"SECRET_KEY_BASE", hex + hex}, {"DJANGO_SECRET_KEY", "k(8z)q1m^x0sj7w&b4tychv2#3df5gh6jk9lq8rt1uv0wx2yz4"},
			{"ENCRYPTION_KEY", "q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ"}, {"APP_KEY", "base64:q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1uV0wX2y="}, {"API_KEY", "8f2c1d7e-9a4b-4c3d-8e0f-1a2b3c4d5e6f"},
			{"VAULT_TOKEN", pieces("hvs.", "CAESIq8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1")}, {"BOT_TOKEN", pieces("5839201746:", "AAHq8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ")}, {"OPENAI_API_KEY", pieces("sk-proj-", "q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1uV0wX2yZ4aB6")},
			{"DD_API_KEY", "8f2c1d7e9a4b6c3d5e0f1a2b3c4d5e6f"}, {"NEW_RELIC_LICENSE_KEY", "8f2c1d7e9a4b6c3d5e0f1a2b3c4d5e6f7a8bNRAL"}, {"SENTRY_DSN", "https://8f2c1d7e9a4b6c3d5e0f1a2b3c4d5e6f:9a4b6c3d5e0f1a2b3c4d5e6f8f2c1d7e@o123.ingest.sentry.io/42"},
			{"COOKIE_SECRET", "q8Zk1mX0sJ7wB4tYchV23dF5gH6jK9lQ8rT1uV0wX2y="}, {"client-secret", "8f2c1d7e-9a4b-4c3d-8e0f-1a2b3c4d5e6f"}, {"clientSecret", "ZXhhbXBsZS1hcHAtc2VjcmV0MTIzNDU2Nzg5MA"},
		},
		"files": {
			{".env", "APP=shop\nDB_PASSWORD=q8Zk1mX0\n"}, {"application.properties", "spring.datasource.password=q8Zk1mX0\n"}, {"application.yml", "spring:\n  datasource:\n    password: q8Zk1mX0\n"},
			{"values.yaml", "auth:\n  rootPassword: \"q8Zk1mX0\"\n"}, {"settings.py", "DATABASES = {'default': {'PASSWORD': 'q8Zk1mX0'}}\n"}, {"appsettings.json", `{"Smtp": {"Password": "q8Zk1mX0"}}`},
			{"my.cnf", "[client]\nuser=root\npassword=q8Zk1mX0\n"}, {"redis.conf", "requirepass q8Zk1mX0\nmasterauth q8Zk1mX0\n"}, {".pgpass", "db:5432:shop:shop:q8Zk1mX0\n"}, {".netrc", "machine git.acme.io login robot password q8Zk1mX0\n"},
			{"users.acl", "user default on >q8Zk1mX0 ~* +@all\n"}, {"config.toml", "[auth]\napi_token = \"q8Zk1mX0sJ7wB4tYchV23dF5\"\n"}, {"setup.sh", "#!/bin/sh\nexport PGPASSWORD=q8Zk1mX0\npsql -h db\n"}, {"init.sql", "CREATE USER shop WITH PASSWORD 'q8Zk1mX0';\n"}, {"init.sql", "CREATE USER 'shop'@'%' IDENTIFIED BY 'q8Zk1mX0';\n"},
			{"rabbitmq.conf", "default_user = shop\ndefault_pass = q8Zk1mX0\n"}, {"kubeconfig", "users:\n- name: admin\n  user:\n    client-key-data: " + encoded(pem("RSA ")) + "\n"},
		},
	}
}

// harmless are values that look like credentials but are not.
func harmless() map[string][]line {
	return map[string][]line{
		"references": {
			{"PASSWORD_SECRET_NAME", "shop-db"}, {"existingSecret", "shop-db-credentials"}, {"passwordSecretRef", "db-password"}, {"secretKeyRef", "password"}, {"tokenSecret", "ci-token-secret"}, {"TLS_SECRET", "wildcard-tls-2026"},
			{"PASSWORD", "vault:secret/data/db#password"}, {"PASSWORD", "ref+vault://secret/db#/password"}, {"PASSWORD", "op://shop/db/password"}, {"PASSWORD", "${DB_PASSWORD}"}, {"PASSWORD", "$(DB_PASSWORD)"}, {"PASSWORD", "{{ .Values.password }}"}, {"PASSWORD", "$__file{/etc/secrets/password}"}, {"PASSWORD", "%(ENV_PASSWORD)s"},
			{"PASSWORD", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop"}, {"PASSWORD", "projects/1/secrets/db/versions/latest"}, {"DB_PASSWORD", "#{DB_PASSWORD}#"}, {"app.yaml", "password: ENC[AES256_GCM,data:p673w==,type:str]\n"}, {"app.yaml", "password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n"}, {"app.yaml", "password:\n  valueFrom:\n    secretKeyRef: {name: db, key: password}\n"},
			{"app.conf", "password = ${?DB_PASSWORD}\n"}, {"app.php", "'password' => env('DB_PASSWORD', ''),\n"}, {"app.rb", "password: <%= ENV['DB_PASSWORD'] %>\n"}, {"app.js", "const password = process.env.DB_PASSWORD;\n"}, {"app.go", "password := os.Getenv(\"DB_PASSWORD\")\n"},
		},
		"paths":        {{"PASSWORD_FILE", "/run/secrets/db"}, {"passwordFile", "secrets/db-password"}, {"TOKEN_PATH", "/var/run/secrets/kubernetes.io/serviceaccount/token"}, {"token", "/var/run/secrets/tokens/vault"}, {"password", "file:///etc/secrets/db"}, {"bearer_token_file", "/var/run/secrets/token"}, {"--tls-private-key-file", "/certs/tls.key"}, {"run.sh", "PASSWORD=$(cat /run/secrets/db)\nTOKEN=`cat /t`\nPASSWORD=\"$1\"\n"}, {"password", "~/.pgpass"}, {"private_key", "keys/signing.pem"}},
		"placeholders": {{"PASSWORD", "<password>"}, {"PASSWORD", "<your-password>"}, {"PASSWORD", "YOUR_PASSWORD"}, {"PASSWORD", "your-password-here"}, {"PASSWORD", "xxxxxxxx"}, {"PASSWORD", "********"}, {"PASSWORD", "REDACTED"}, {"PASSWORD", "REPLACE_ME"}, {"PASSWORD", "CHANGE_ME"}, {"PASSWORD", "TODO"}, {"PASSWORD", "..."}, {"PASSWORD", "password-placeholder"}, {"API_KEY", "your-api-key-goes-here-1234"}, {"TOKEN", "insert-token-here"}, {"A", "https://user:password@example.com/"}, {"A", "https://<user>:<password>@git.acme.io"}, {"A", "postgres://user:pass@localhost:5432/db"}, {"A", "http://username:password@proxy:8080"}},
		"settings":     {{"PASSWORD_POLICY", "strict"}, {"password-policy", "length(12)"}, {"passwordMinLength", "12"}, {"PASSWORD_RESET_ENABLED", "true"}, {"requirePassword", "false"}, {"password", "true"}, {"ENABLE_PASSWORD_AUTH", "yes"}, {"PasswordAuthentication", "no"}, {"token_ttl", "768h"}, {"TOKEN_EXPIRY", "3600"}, {"accessTokenLifespan", "300"}, {"tokenReviewerServiceAccount", "vault-auth-7f9c"}, {"secretType", "kubernetes.io/dockerconfigjson"}, {"secret", "optional"}, {"token", "jwt"}, {"KEY_ROTATION", "90d"}, {"apiKeyHeader", "X-Api-Key"}, {"AUTH_TOKEN_URL", "https://login.acme.io/oauth2/token"}, {"token-url", "https://login.acme.io/realms/shop/protocol/openid-connect/token"}, {"PASSWORD_ENCODER", "bcrypt"}, {"grant_type", "password"}, {"tokenAudience", "https://kubernetes.default.svc"}, {"passwordKey", "admin-password"}, {"userPasswordKey", "redis-password"}, {"secretName", "shop-tls"}, {"sharedKeyName", "RootManageSharedAccessKey"}, {"csrf-token-header", "X-CSRF-Token-2"}, {"featureGates", "password-policy=true,token-v2=false"}},
		"hashes":       {{"passwordHash", "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"}, {"htpasswd", "admin:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"}, {"checksum/secret", hexOf(64)}, {"config-hash-token", hexOf(40)}, {"image", "ghcr.io/acme/token-service@sha256:" + hexOf(64)}, {"secret-sha256", hexOf(64)}, {"commit", hexOf(40)}, {"digest", "sha256:" + hexOf(64)}, {"etag", hexOf(32)}, {"index.js", "integrity=\"sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC\"\n"}},
		"identifiers":  {{"CLIENT_ID", "8f2c1d7e-9a4b-4c3d-8e0f-1a2b3c4d5e6f"}, {"AWS_ACCOUNT_ID", "123456789012"}, {"AZURE_TENANT_ID", "8f2c1d7e-9a4b-4c3d-8e0f-1a2b3c4d5e6f"}, {"keyId", "8f2c1d7e9a4b6c3d"}, {"KMS_KEY", "arn:aws:kms:eu-west-1:123456789012:key/8f2c1d7e-9a4b-4c3d-8e0f-1a2b3c4d5e6f"}, {"private_key_id", hexOf(40)}, {"accessKeyId", "shop-reader"}, {"uid", "8f2c1d7e-9a4b-4c3d-8e0f-1a2b3c4d5e6f"}, {"SENTRY_DSN", "https://8f2c1d7e9a4b6c3d5e0f1a2b3c4d5e6f@o123.ingest.sentry.io/42"}, {"secretKey", "mysql-root-password"}, {"tokenKey", "api-token-v2"}},
		"public":       {{"ca.crt", cert}, {"tls.crt", cert + cert}, {"publicKey", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8nXRh950IZbRj8Ra/N9sbqOPZrfM\n-----END PUBLIC KEY-----\n"}, {"id_rsa.pub", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7vbqajDhA me@host\n"}, {"known_hosts", "github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n"}, {"caBundle", encoded(cert)}, {"pgp", "-----BEGIN PGP PUBLIC KEY BLOCK-----\nmQENBFq8Zk1BCAC3q8Zk1mX0sJ7wB4tYchV2\n-----END PGP PUBLIC KEY BLOCK-----\n"}, {"age-recipient", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}, {"RECAPTCHA_SITE_KEY", "6LeIxAcTAAAAAJcZVRqyHh71UMIEGNQ_MXjiZKhI"}, {"STRIPE_PUBLISHABLE_KEY", "pk_live_51Kq8Zk1mX0sJ7wB4tYchV23dF5"}},
		"urls":         {{"DATABASE_URL", "postgres://db.prod.svc:5432/shop"}, {"DATABASE_URL", "postgres://shop@db:5432/shop"}, {"REDIS_URL", "redis://redis-master:6379/0"}, {"AMQP", "amqp://$(USER):$(PASSWORD)@rabbitmq:5672"}, {"A", "https://git.acme.io/shop.git"}, {"A", "git@github.com:acme/shop.git"}, {"A", "ssh://git@github.com:22/acme/shop"}, {"A", "https://acme.io/a:b@c"}, {"PROXY", "http://proxy.corp:3128"}, {"MONGO", "mongodb://mongo-0,mongo-1:27017/shop?replicaSet=rs0"}},
		"prose":        {{"notice", "The password: what you chose when you signed up.\n"}, {"README.md", "Set `password` to the password of the database. The token is in the Secret shop.\n"}, {"help.txt", "  --password string   password of the user (default \"\")\n  --token string      token\n"}, {"schema.json", `{"properties": {"password": {"type": "string", "format": "password"}, "token": {"type": "string", "description": "Token"}}}`}, {"dashboard.json", `{"title": "Token usage", "expr": "rate(token_requests_total{password=\"wrong\"}[5m])", "field": "token"}`}, {"rules.yaml", "- alert: PasswordExpires\n  expr: secret_age > 90\n  annotations: {summary: \"password of {{ $labels.user }} expires\"}\n"}, {"openapi.yaml", "securitySchemes:\n  token: {type: apiKey, in: header, name: X-Token}\n"}, {"login.lua", "local token = ngx.var.http_token\nif password == nil then return end\n"}, {"nginx.conf", "proxy_set_header Authorization $http_authorization;\nauth_basic_user_file /etc/nginx/htpasswd;\n"}, {"login.html", `<input type="password" name="password" placeholder="Password">`}, {"fluent.conf", "password \"#{ENV['PASSWORD']}\"\n"}, {"init.sql", "ALTER USER shop PASSWORD NULL;\nCREATE TABLE tokens (token text, secret text);\n"}, {"messages.properties", "login.password=Password\nlogin.token=Access token\nreset.password=Reset your password\n"}},
	}
}

func hexOf(n int) string {
	return "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"[:n]
}

// unfound are the planted credentials that are not found, because only the position in the file
// shows what the value is.
var unfound = map[string]bool{"files .pgpass": true, "files users.acl": true}

// TestMeasured measures what is found outside of Secrets, in values of ConfigMaps and of
// variables: all planted credentials except those that are listed, and nothing that is harmless.
func TestMeasured(t *testing.T) {
	measure := func(of map[string][]line, right func(kind string, l line, hit bool) bool) (hits, all int) {
		for kind, lines := range of {
			for _, l := range lines {
				got := found(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  "+quoted(l.name)+": "+quoted(l.value)+"\n")
				variable := found(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, env: [{name: "+quoted(l.name)+", value: "+quoted(l.value)+"}]}]}\n")
				if len(got) != len(variable) {
					t.Errorf("%s %s: in a ConfigMap %q, in a variable %q", kind, l.name, got, variable)
				}
				for _, what := range got {
					if strings.Contains(what, l.value) {
						t.Errorf("%s %s is described with its value", kind, l.name)
					}
				}
				if all++; len(got) > 0 {
					hits++
				}
				if !right(kind, l, len(got) > 0) {
					t.Errorf("%s %s: %q: found %q", kind, l.name, l.value, got)
				}
			}
		}
		return hits, all
	}
	hits, all := measure(planted(), func(kind string, l line, hit bool) bool { return hit != unfound[kind+" "+l.name] })
	alarms, lines := measure(harmless(), func(_ string, _ line, hit bool) bool { return !hit })
	t.Logf("%d of %d credentials are found, and %d of %d harmless values are taken for one", hits, all, alarms, lines)
}
