# Prometheus and Alertmanager from Debian's packages, on the vault's own base image, so that no
# registry need be reached. No user has rights, nothing but the volume /data can be written.
# The packages bring 200 MB of JavaScript and time zones that their pages never load; they stay behind.
FROM debian:bookworm-slim AS packages
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends prometheus prometheus-alertmanager \
 && cp -rL /usr/share/prometheus /pages \
 && rm -r /pages/web/static/moment-timezone/data

FROM debian:bookworm-slim
COPY --from=packages /usr/bin/prometheus /usr/bin/promtool /usr/bin/prometheus-alertmanager /usr/bin/amtool /usr/bin/
COPY --from=packages /pages /usr/share/prometheus
COPY answers.sh /usr/local/bin/answers
RUN chmod 0755 /usr/local/bin/answers \
 && groupadd --gid 10002 monitor \
 && useradd --uid 10002 --gid monitor --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin monitor \
 && install -d -o monitor -g monitor -m 0700 /data \
 && install -d /etc/prometheus /etc/alertmanager
USER monitor
WORKDIR /data
LABEL org.opencontainers.image.title="Quorumvault"
