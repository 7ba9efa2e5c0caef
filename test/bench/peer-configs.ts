// Configurations of the peers, as much alike as they can be: keep-alive to the target, no access log, one thread.

/** PEM files of the bench: its CA, and the proxies' certificate and key, alone and in one file. */
export interface Files {
  ca: string;
  certificate: string;
  key: string;
  both: string;
}

/** What both nginx have in common; one process, no master. */
function nginxParts(folder: string, files: Files): { global: string; http: string; tls: string } {
  return {
    global: `daemon off; master_process off; pid ${folder}/nginx-${Math.random()}.pid; error_log stderr crit;
events { worker_connections 8000; }`,
    http: `access_log off; keepalive_requests 100000000; keepalive_timeout 1h; tcp_nodelay on;
client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f;
uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;`,
    tls: `ssl_certificate ${files.certificate}; ssl_certificate_key ${files.key};
ssl_protocols TLSv1.2 TLSv1.3;`,
  };
}

export function nginxTarget(
  folder: string,
  files: Files,
  ports: { target: number; target2: number; status: number },
): string {
  const { global, http, tls } = nginxParts(folder, files);
  const { target, target2, status } = ports;
  return `${global}
http { ${http} open_file_cache max=10; default_type application/json; http2_max_concurrent_streams 1000;
server { listen 127.0.0.1:${target} ssl backlog=4096; listen 127.0.0.1:${target2} ssl http2 backlog=4096; ${tls}
root ${folder}/www; location /api/ { try_files /small =404; } location = /api/v1/configmaps { try_files /big =404; } }
server { listen 127.0.0.1:${status}; location / { stub_status; } } }`;
}

export function nginxProxy(
  folder: string,
  files: Files,
  { nginx, nginx2, target, token }: { nginx: number; nginx2: number; target: number; token: string },
): string {
  const { global, http, tls } = nginxParts(folder, files);
  return `${global}
http { ${http}
upstream target { server 127.0.0.1:${target}; keepalive 1024; keepalive_requests 100000000; keepalive_timeout 1h; }
server { listen 127.0.0.1:${nginx} ssl backlog=4096; listen 127.0.0.1:${nginx2} ssl http2 backlog=4096; ${tls}
location / { proxy_pass https://target; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_set_header Host 127.0.0.1:${target}; proxy_set_header Authorization "Bearer ${token}"; proxy_buffering off;
proxy_request_buffering off; proxy_read_timeout 1h; proxy_ssl_verify on; proxy_ssl_trusted_certificate ${files.ca};
proxy_ssl_name localhost; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3; } } }`;
}

/** One port of haproxy, and what is behind it. */
export interface HaproxyDoor {
  listen: number;
  target: number;
  /** Of both sides. */
  protocol: "http/1.1" | "h2";
  /** Whether requests of several clients go over one connection to the target. */
  reuse: "always" | "never";
  /** The file with the target's CA. */
  ca: string;
  /** Sent to the target. */
  token: string;
}

export function haproxyConfig(files: Files, doors: readonly HaproxyDoor[]): string {
  const parts = doors.map(
    ({ listen, target, protocol, reuse, ca, token }) => `listen door-${listen}
  bind 127.0.0.1:${listen} ssl crt ${files.both} alpn ${protocol}
  http-request set-header Authorization "Bearer ${token}"
  http-reuse ${reuse}
  server one 127.0.0.1:${target} ssl verify required ca-file ${ca} sni str(localhost) alpn ${protocol}
`,
  );
  return `global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
${parts.join("")}`;
}

export function kubeconfig(target: number, ca: string, token: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster: { server: `https://127.0.0.1:${target}`, "certificate-authority": ca } }],
    users: [{ name: "u", user: { token } }],
    contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
    "current-context": "c",
  });
}
