/* SPDX-License-Identifier: MIT */
#include "session.h"

#include "message.h"

int session_open(Session *session)
{
    VklContextDesc desc = vkl_context_desc();
    desc.log = message_log;
    desc.threads = 0;
    VklStatus status = vkl_context_create(&desc, &session->context);
    return status == VKL_OK ? EXIT_OK : fail_library(NULL, status);
}

int session_open_device(Session *session, const char *selector)
{
    VklDeviceDesc desc = vkl_device_desc(selector);
    VklStatus status = vkl_device_create(session->context, &desc, &session->device);
    return status == VKL_OK ? EXIT_OK : fail_library(session->context, status);
}

void session_close(Session *session)
{
    vkl_device_destroy(session->device);
    vkl_context_destroy(session->context);
    session->device = NULL;
    session->context = NULL;
}
