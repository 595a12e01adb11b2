#!/bin/bash
# Is the service on this port of the container ready? A shell asks: there is no curl in the image.
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET /-/ready HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r -t 2 line <&3 || exit 1
[[ $line == *" 200 "* ]]
