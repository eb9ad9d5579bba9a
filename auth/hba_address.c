#include "auth/hba_rules.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* Bytes of an address, IPv4 where it is IPv4-mapped. Returns their number, 0 for other families. */
static uint8_t address_bytes(uint8_t out[16], const struct sockaddr_storage *from)
{
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;

        memcpy(out, &v4->sin_addr, 4);
        return 4;
    }
    if (from->ss_family != AF_INET6)
        return 0;

    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
    memcpy(out, &v6->sin6_addr, 16);
    if (memcmp(out, mapped_prefix, sizeof(mapped_prefix)) != 0)
        return 16;
    memmove(out, out + 12, 4);
    return 4;
}

static void clear_host_bits(struct hba_net *net)
{
    for (size_t i = 0; i < net->len; i++) {
        size_t bits = net->prefix_bits > i * 8 ? net->prefix_bits - i * 8 : 0;

        if (bits < 8)
            net->address[i] &= (uint8_t)(0xff00 >> bits);
    }
}

/* A peer that comes as ::ffff:a.b.c.d is compared as IPv4, so such a network must be IPv4 too. */
static void unmap(struct hba_net *net)
{
    if (net->len != 16 || net->prefix_bits < 96 ||
        memcmp(net->address, mapped_prefix, sizeof(mapped_prefix)) != 0)
        return;
    memmove(net->address, net->address + 12, 4);
    net->len = 4;
    net->prefix_bits -= 96;
}

static int parse_prefix(const char *text, unsigned max, uint8_t *out)
{
    unsigned v = 0;

    if (text[0] == '\0' || strlen(text) > 3)
        return -1;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        v = v * 10 + (unsigned)(*text - '0');
    }
    if (v > max)
        return -1;
    *out = (uint8_t)v;
    return 0;
}

int hba_net_parse(struct hba_net *out, const char *text, bool *bare, struct failure *why)
{
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char ip[INET6_ADDRSTRLEN];
    struct hba_net net = {0};

    *bare = slash == NULL;
    if (len >= sizeof(ip))
        return fail(why, "invalid address '%.100s'", text);
    memcpy(ip, text, len);
    ip[len] = '\0';
    if (inet_pton(AF_INET, ip, net.address) == 1)
        net.len = 4;
    else if (inet_pton(AF_INET6, ip, net.address) == 1)
        net.len = 16;
    else
        return fail(why, "invalid address '%.100s' (host names are not supported)", text);

    net.prefix_bits = (uint8_t)(net.len * 8);
    if (slash != NULL && parse_prefix(slash + 1, net.len * 8u, &net.prefix_bits) != 0)
        return fail(why, "invalid prefix length in '%.100s'", text);
    clear_host_bits(&net);
    unmap(&net);
    *out = net;
    return 0;
}

/* Counts the leading ones. -1 when ones follow a zero. */
static int mask_bits(const uint8_t *mask, size_t len)
{
    int bits = 0;
    bool ended = false;

    for (size_t i = 0; i < len * 8; i++) {
        bool one = (mask[i / 8] >> (7 - i % 8)) & 1;

        if (one && ended)
            return -1;
        ended = !one;
        bits += one;
    }
    return bits;
}

int hba_net_mask(struct hba_net *net, const char *mask, struct failure *why)
{
    uint8_t bytes[16];
    size_t len = inet_pton(AF_INET, mask, bytes) == 1    ? 4
                 : inet_pton(AF_INET6, mask, bytes) == 1 ? 16
                                                         : 0;

    if (len == 0)
        return 1;
    if (len != net->len)
        return fail(why, "address and mask '%s' are of different families", mask);

    int bits = mask_bits(bytes, len);
    if (bits < 0)
        return fail(why, "mask '%s' has a gap", mask);
    net->prefix_bits = (uint8_t)bits;
    clear_host_bits(net);
    return 0;
}

bool hba_net_contains(const struct hba_net *net, const struct sockaddr_storage *peer)
{
    struct hba_net at = {.prefix_bits = net->prefix_bits};

    at.len = address_bytes(at.address, peer);
    if (at.len != net->len)
        return false;
    clear_host_bits(&at);
    return memcmp(at.address, net->address, net->len) == 0;
}

int hba_rule_add_net(struct hba_rule *rule, const struct hba_net *net, struct failure *why)
{
    struct hba_net *grown = realloc(rule->nets, (rule->net_count + 1) * sizeof(*grown));

    if (grown == NULL)
        return fail(why, "out of memory");
    rule->nets = grown;
    rule->nets[rule->net_count++] = *net;
    return 0;
}

static bool sockaddr_bytes(uint8_t out[16], const struct sockaddr *from, uint8_t *len)
{
    struct sockaddr_storage storage = {0};

    if (from == NULL || (from->sa_family != AF_INET && from->sa_family != AF_INET6))
        return false;
    memcpy(&storage, from,
           from->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    *len = address_bytes(out, &storage);
    return *len != 0;
}

/* Looked up once, when the rules are read: a new interface counts after the next reload. */
int hba_nets_of_machine(struct hba_rule *rule, bool whole_net, struct failure *why)
{
    struct ifaddrs *all;
    int result = 0;

    if (getifaddrs(&all) != 0)
        return fail(why, "cannot list the addresses of this machine");
    for (const struct ifaddrs *i = all; i != NULL && result == 0; i = i->ifa_next) {
        struct hba_net net = {0};
        uint8_t mask[16];
        uint8_t mask_len = 0;

        if (!sockaddr_bytes(net.address, i->ifa_addr, &net.len))
            continue;
        net.prefix_bits = (uint8_t)(net.len * 8);
        if (whole_net && sockaddr_bytes(mask, i->ifa_netmask, &mask_len) && mask_len == net.len) {
            int bits = mask_bits(mask, mask_len);

            if (bits > 0) /* a link without a network stands for its own address only */
                net.prefix_bits = (uint8_t)bits;
        }
        clear_host_bits(&net);
        result = hba_rule_add_net(rule, &net, why);
    }
    freeifaddrs(all);
    return result;
}
